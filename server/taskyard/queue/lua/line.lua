-- What the scripts of a line share; each of them follows this text.
--
-- A line is the queue of one name. KEYS[1] names it, all its keys begin with that, and so lie in one slot:
--   :epoch              there once the line is complete; a flush takes it away
--   :used               there for an hour after something was added
--   :ready:<type>       sorted set of what can be claimed
--   :types              the types that may have a ready set
--   :paused             the instances that paused this queue
--   :parked:<instance>  sorted set of what a pause keeps from the claimers; its members begin with the type
--   :asked              written by each claimer (asked.lua)
--   :holding            by task id: what was offered to a claimer and is not settled; as in :parked, after the score
--   :held               the same ids by the time at which they come back, in milliseconds
-- The score is band * 2^43 + the task's sequence, band 0 the most important one. A task keeps its sequence, so that
-- its entry is found at one of ten scores. A member is: id, generation, instance, hexadecimal time of entering, each
-- on a line of its own.

local LINE = KEYS[1]
local EPOCH, TYPES, PAUSED = LINE .. ':epoch', LINE .. ':types', LINE .. ':paused'
local USED = LINE .. ':used'
local HOLDING, HELD = LINE .. ':holding', LINE .. ':held'
local BAND = 2 ^ 43
-- So much of what a pause keeps back is parked by one call; the next one goes on.
local PARKING = 1000
-- So many entries whose claimer fell silent come back by one call.
local RETURNING = 100

local function ready_key(task_type)
  return LINE .. ':ready:' .. task_type
end

local function parked_key(instance)
  return LINE .. ':parked:' .. instance
end

local function exactly(number)
  return string.format('%.0f', number) -- tostring would round it
end

local function parts_of(member)
  return string.match(member, '^(.-)\n(%d+)\n(.-)\n(%x+)$')
end

local function generation_of(member)
  local _, generation = parts_of(member)
  return tonumber(generation)
end

-- The member of a task in a sorted set, as it is stored there, with its generation.
local function find(key, prefix, id, seq)
  if redis.call('EXISTS', key) == 0 then
    return
  end
  for band = 0, 9 do
    local score = exactly(band * BAND + seq)
    for _, stored in ipairs(redis.call('ZRANGEBYSCORE', key, score, score)) do
      local member = string.sub(stored, #prefix + 1)
      if string.sub(member, 1, #id + 1) == id .. '\n' then
        return stored, generation_of(member)
      end
    end
  end
end

local function held(id)
  local packed = redis.call('HGET', HOLDING, id)
  if packed then
    local score, task_type, member = string.match(packed, '^(%d+)\n(.-)\n(.*)$')
    return score, task_type, member
  end
end

local function let_go(id)
  redis.call('HDEL', HOLDING, id)
  redis.call('ZREM', HELD, id)
end

-- Put an entry where it belongs now, unless a newer one of its task is known.
local function put(task_type, score, member)
  local id, generation, instance = parts_of(member)
  generation = tonumber(generation)
  local _, _, offered = held(id)
  if offered and generation_of(offered) >= generation then
    return
  end
  local prefix = task_type .. '\n'
  local target, stored = ready_key(task_type), member
  local other, other_prefix = parked_key(instance), prefix
  if redis.call('SISMEMBER', PAUSED, instance) == 1 then
    target, other, other_prefix = other, target, ''
    stored = prefix .. member
  end
  if redis.call('ZSCORE', target, stored) then
    return
  end
  local seq = tonumber(score) % BAND
  local target_prefix = other_prefix == '' and prefix or ''
  local known, known_generation = find(target, target_prefix, id, seq)
  if known and known_generation >= generation then
    return
  end
  local strayed, strayed_generation = find(other, other_prefix, id, seq)
  if strayed and strayed_generation > generation then
    return
  end
  redis.call('ZADD', target, score, stored)
  if target_prefix == '' then
    redis.call('SADD', TYPES, task_type)
  end
  if known then
    redis.call('ZREM', target, known)
  end
  if strayed then
    redis.call('ZREM', other, strayed)
  end
end

-- Put back in line what claimers took and never settled.
local function bring_back(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', HELD, 0, exactly(now), 'LIMIT', 0, RETURNING)) do
    local score, task_type, member = held(id)
    let_go(id)
    if score then
      put(task_type, score, member)
    end
  end
end

local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
