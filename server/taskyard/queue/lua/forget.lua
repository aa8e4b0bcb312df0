-- Forget a line that nobody has added to for long and that holds nothing. The reply: whether it was.

local BUILDING = LINE .. ':building'

local function is_empty()
  if redis.call('EXISTS', USED, HOLDING, HELD, PAUSED, BUILDING) > 0 then
    return false
  end
  for _, task_type in ipairs(redis.call('SMEMBERS', TYPES)) do
    if redis.call('EXISTS', ready_key(task_type)) == 1 then
      return false
    end
  end
  return true
end

if not is_empty() then
  return 0
end
redis.call('DEL', EPOCH, TYPES, LINE .. ':asked')
return 1
