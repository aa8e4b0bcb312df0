-- Forget entries that were offered: they were claimed, or are stale. ARGV: id, generation of each.

for at = 1, #ARGV, 2 do
  local _, _, member = held(ARGV[at])
  if member and generation_of(member) == tonumber(ARGV[at + 1]) then
    let_go(ARGV[at])
  end
end
