-- End a rebuild: the line is complete, unless something was flushed since the rebuild began.
-- ARGV: the token that the rebuild left here, which becomes the epoch. The reply: whether it does.

local building = KEYS[1] .. ':building'
if redis.call('GET', building) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1] .. ':epoch', ARGV[1])
redis.call('DEL', building)
return 1
