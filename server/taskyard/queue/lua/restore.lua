-- Put back in line what was offered and not claimed. ARGV: id, generation of each.

for at = 1, #ARGV, 2 do
  local score, task_type, member = held(ARGV[at])
  if score and generation_of(member) == tonumber(ARGV[at + 1]) then
    let_go(ARGV[at])
    put(task_type, score, member)
  end
end
