-- Show the best entries, and the oldest ones that starve; the line stays as it is.
-- ARGV: as in choice.lua, then 6 how many starving ones.
-- The reply: 1 to call again, 2 for nothing because some may lie behind too many entries of other instances, or 0; how
-- many best ones there are, then type, score, member of each, the starving last.

if redis.call('EXISTS', EPOCH) == 0 then
  return false
end
bring_back(milliseconds())

local reply, gone = { 0, 0 }, {}
for _ = 1, COUNT do
  local item, source = best(gone)
  if not item then
    break
  end
  gone[item.member] = true
  source.skip = source.skip + 1
  reply[2] = reply[2] + 1
  append(reply, item)
end
local count = tonumber(ARGV[6])
if count > 0 then
  local oldest = starved(count)
  table.sort(oldest, function(one, other) return one.seq < other.seq end)
  for at = 1, math.min(count, #oldest) do
    append(reply, oldest[at])
  end
end
if more then
  reply[1] = 1
elseif too_far then
  return { 2, 0 }
end
return reply
