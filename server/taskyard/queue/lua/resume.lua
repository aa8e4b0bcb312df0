-- End a pause: put back up to PARKING entries that it kept. ARGV: the instance. The reply: whether to call again.

local instance = ARGV[1]
redis.call('SREM', PAUSED, instance)
local chunk = redis.call('ZRANGE', parked_key(instance), 0, PARKING - 1, 'WITHSCORES')
for at = 1, #chunk, 2 do
  local task_type, member = string.match(chunk[at], '^(.-)\n(.*)$')
  put(task_type, chunk[at + 1], member)
  redis.call('ZREM', parked_key(instance), chunk[at])
end
return redis.call('EXISTS', parked_key(instance))
