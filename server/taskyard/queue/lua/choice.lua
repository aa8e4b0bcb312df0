-- What the scripts that choose entries share; it follows line.lua.
-- ARGV: 1 the highest score, 2 entries that came before this time may be old (milliseconds), 3 how many entries,
-- 4 the place of the first argument that names a type, and from there on the types; none: all of them,
-- 5 the instances whose entries are wanted, as JSON; empty: all of them.

local HIGHEST, OLD, COUNT = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local any_paused = redis.call('SCARD', PAUSED) > 0
local pauses = {}
local parked = 0 -- by this call
local more = false -- whether the call ended early, because it had enough to do with parking
-- A scan that has passed over so many entries of other instances ends; what lies behind them is left to the table.
local PASSING = 200
local too_far = false -- whether the call ended early, because of this

local scope -- the instances as a set; nil: all of them
if ARGV[5] ~= '' then
  scope = {}
  for _, instance in ipairs(cjson.decode(ARGV[5])) do
    scope[instance] = true
  end
end

local function is_paused(instance)
  if not any_paused then
    return false
  end
  if pauses[instance] == nil then
    pauses[instance] = redis.call('SISMEMBER', PAUSED, instance) == 1
  end
  return pauses[instance]
end

-- `count` entries of a type between two scores, or a few more, best first; the `skip` best ones are left out.
-- What is paused is parked on the way. Then: how many of other instances were passed over, and where the scan
-- stands if it ended because of these.
local function scan(task_type, low, high, skip, count)
  local key, found, foreign, rank = ready_key(task_type), {}, 0, nil
  while #found < count do
    local chunk = redis.call(
      'ZRANGEBYSCORE', key, low, high, 'WITHSCORES',
      'LIMIT', skip + foreign + #found, math.max(count - #found, foreign)
    )
    if #chunk == 0 then
      break
    end
    for at = 1, #chunk, 2 do
      local member, score = chunk[at], chunk[at + 1]
      local _, _, instance, entered = parts_of(member)
      rank = tonumber(score)
      if is_paused(instance) then
        redis.call('ZADD', parked_key(instance), score, task_type .. '\n' .. member)
        redis.call('ZREM', key, member)
        parked = parked + 1
      elseif scope and not scope[instance] then
        foreign = foreign + 1
      else
        found[#found + 1] = {
          type = task_type, member = member, score = score, rank = rank, entered = tonumber(entered, 16)
        }
      end
    end
    if parked >= PARKING then
      more = true
      break
    end
    if foreign >= PASSING and #found < count then
      return found, foreign, rank
    end
  end
  return found, foreign
end

local sources = {}
do
  local types = {}
  local first = tonumber(ARGV[4])
  if first == 0 then
    types = redis.call('SMEMBERS', TYPES)
  else
    for at = first, #ARGV do
      types[#types + 1] = ARGV[at]
    end
  end
  for _, task_type in ipairs(types) do
    if redis.call('EXISTS', ready_key(task_type)) == 1 then
      sources[#sources + 1] = { type = task_type, items = {}, at = 1, skip = 0 }
    elseif first == 0 then
      redis.call('SREM', TYPES, task_type)
    end
  end
end
local chunk_size = math.ceil(COUNT / math.max(1, #sources))

-- The best entry of a source that is not in `gone`. `skip` of its best ones were looked at and are still there; one
-- with an `ending` was looked at up to there, and no further.
local function head(source, gone)
  while true do
    local item = source.items[source.at]
    if item == nil then
      if source.ending then
        return nil
      end
      local foreign
      source.items, foreign, source.ending = scan(source.type, '-inf', HIGHEST, source.skip, chunk_size)
      source.skip = source.skip + foreign
      source.at = 1
      if #source.items == 0 then
        return nil
      end
    elseif gone[item.member] then
      source.at = source.at + 1
    else
      return item
    end
  end
end

-- The best entry of all, and its source; nothing if a better one may lie where no source was looked at.
local function best(gone)
  local chosen, its_source
  local known = math.huge -- up to here every source was looked at
  for _, source in ipairs(sources) do
    local item = head(source, gone)
    if item and (not chosen or item.rank < chosen.rank) then
      chosen, its_source = item, source
    elseif not item and source.ending then
      known = math.min(known, source.ending)
    end
  end
  if known < (chosen and chosen.rank or math.huge) then
    too_far = true
    return nil
  end
  return chosen, its_source
end

-- Up to `count` entries of each band of each type that have waited too long, in no order.
local function starved(count)
  local found = {}
  local last_band = math.floor(tonumber(HIGHEST) / BAND)
  for _, source in ipairs(sources) do
    for band = 0, last_band do
      local items, _, ending = scan(source.type, exactly(band * BAND), exactly((band + 1) * BAND - 1), 0, count)
      too_far = too_far or ending ~= nil
      for _, item in ipairs(items) do
        if item.entered < OLD then
          item.seq = item.rank % BAND
          found[#found + 1] = item
        end
      end
    end
  end
  return found
end

local function append(reply, item)
  reply[#reply + 1] = item.type
  reply[#reply + 1] = item.score
  reply[#reply + 1] = item.member
end
