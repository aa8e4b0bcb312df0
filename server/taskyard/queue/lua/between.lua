-- Show entries whose sequence lies between two; the line stays as it is. ARGV: the lowest, the highest, how many at
-- most of each band of each type. The reply: type, score, member of each.

local low, high, count = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local reply = {}

local function show(key, task_type)
  for band = 0, 9 do
    local chunk = redis.call(
      'ZRANGEBYSCORE', key, exactly(band * BAND + low), exactly(band * BAND + high), 'WITHSCORES', 'LIMIT', 0, count
    )
    for at = 1, #chunk, 2 do
      local its_type, member = task_type, chunk[at]
      if not its_type then
        its_type, member = string.match(member, '^(.-)\n(.*)$')
      end
      reply[#reply + 1] = its_type
      reply[#reply + 1] = chunk[at + 1]
      reply[#reply + 1] = member
    end
  end
end

for _, task_type in ipairs(redis.call('SMEMBERS', TYPES)) do
  show(ready_key(task_type), task_type)
end
for _, instance in ipairs(redis.call('SMEMBERS', PAUSED)) do
  show(parked_key(instance))
end
return reply
