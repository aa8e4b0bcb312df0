-- Offer the best entries to a claimer: they go from the ready sets to the holding set.
-- ARGV: as in choice.lua, then 6 for each entry 'b' (the best) or 'o' (the oldest that starves, or else the best),
-- 7 how long they are held (milliseconds). The reply: 1 to call again, 2 for nothing because what comes next may lie
-- behind too many entries of other instances, or 0; then type, score, member of each.

if redis.call('EXISTS', EPOCH) == 0 then
  return false
end
local now = milliseconds()
bring_back(now)

local picks, back_at = ARGV[6], exactly(now + tonumber(ARGV[7]))
local reply, gone = { 0 }, {}
for at = 1, COUNT do
  local item
  if string.sub(picks, at, at) == 'o' then
    for _, candidate in ipairs(starved(1)) do
      if not item or candidate.seq < item.seq then
        item = candidate
      end
    end
  end
  item = item or best(gone)
  if too_far or not item then
    break
  end
  -- First into the holding set: where memory is short, this is what fails, and nothing is lost.
  local id = string.match(item.member, '^(.-)\n')
  redis.call('HSET', HOLDING, id, item.score .. '\n' .. item.type .. '\n' .. item.member)
  redis.call('ZADD', HELD, back_at, id)
  redis.call('ZREM', ready_key(item.type), item.member)
  gone[item.member] = true
  append(reply, item)
end
if more then
  reply[1] = 1
elseif too_far and #reply == 1 then
  reply[1] = 2
end
return reply
