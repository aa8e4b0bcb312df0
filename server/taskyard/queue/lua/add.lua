-- Put entries in line. ARGV: type, score, member of each. The reply: whether the line is complete.

-- Not an error where memory is short: entries that are in line already write nothing else.
redis.pcall('SET', USED, 1, 'EX', 3600)
for at = 1, #ARGV, 3 do
  put(ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
return redis.call('EXISTS', EPOCH)
