-- A rebuild goes on. ARGV: its token, for how many seconds that holds. The reply: whether it is still under way.

local building = KEYS[1] .. ':building'
if redis.call('GET', building) ~= ARGV[1] then
  return 0
end
redis.call('EXPIRE', building, ARGV[2])
return 1
