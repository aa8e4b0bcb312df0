-- Take entries, and older ones of their tasks, out of line. ARGV: type, score, member of each.

for at = 1, #ARGV, 3 do
  local task_type, seq, member = ARGV[at], tonumber(ARGV[at + 1]) % BAND, ARGV[at + 2]
  local id, generation, instance = parts_of(member)
  generation = tonumber(generation)
  local _, _, offered = held(id)
  if offered and generation_of(offered) <= generation then
    let_go(id)
  end
  local places = { { ready_key(task_type), '' }, { parked_key(instance), task_type .. '\n' } }
  for _, place in ipairs(places) do
    local stored, found = find(place[1], place[2], id, seq)
    if stored and found <= generation then
      redis.call('ZREM', place[1], stored)
    end
  end
end
