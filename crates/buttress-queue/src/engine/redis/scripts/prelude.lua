-- What comes before each of the scripts: the keys of a BullMQ queue by their names, and what is done with them alike.
local wait, active, prioritized, delayed, completed, failed, meta, events, marker, pc, ids, stalled = unpack(KEYS)
local prefix, now = ARGV[1], tonumber(ARGV[2])
local call = redis.call
local LANE = 0x100000000 -- between the scores of two priorities
local TICK = 0x1000 -- between the scores of two milliseconds

local function halted()
  local state = call('HMGET', meta, 'paused', 'concurrency')
  return state[1] or (state[2] and call('LLEN', active) >= tonumber(state[2]))
end

-- Wakes workers of any language that wait.
local function wake()
  if not halted() then
    call('ZADD', marker, 0, '0')
  end
end

local function tell(...)
  call('XADD', events, 'MAXLEN', '~', call('HGET', meta, 'opts.maxLenEvents') or 10000, '*', 'event', ...)
end

-- Where a job stands, if it is known still; `age` is how long one that is done is remembered for.
local function standing(id, age)
  local key = prefix .. id
  if call('EXISTS', key) == 0 then
    return nil
  end
  local finished = call('ZSCORE', completed, id)
  if finished then
    if tonumber(finished) + age > now then
      return 'done'
    end
    return nil
  end
  if call('ZSCORE', failed, id) then
    return 'dead'
  end
  local due = call('ZSCORE', delayed, id)
  if due then
    return math.floor(tonumber(due) / TICK) > now and 'delayed' or 'waiting'
  end
  if call('EXISTS', key .. ':lock') == 1 or call('LPOS', active, id) then
    return 'active'
  end
  return 'waiting'
end

local function forget(id)
  local key = prefix .. id
  call('DEL', key, key .. ':logs', key .. ':lock', key .. ':dependencies', key .. ':processed', key .. ':failed',
    key .. ':unsuccessful')
end

-- The range of scores of a priority.
local function lane(priority)
  return priority * LANE, (priority + 1) * LANE - 1
end
