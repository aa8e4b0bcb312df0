-- Before anything else a claimer writes: to one that only reads, a Redis that takes no writes would look like an
-- empty line. (Once a script has written something, a full Redis lets it write on.)

redis.call('SET', LINE .. ':asked', 1)

