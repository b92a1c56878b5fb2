-- What comes before each of the scripts: the keys of a BullMQ queue by their names, and what is done with them alike.
-- ARGV: what keys begin with, the time by the queue's clock, until when by the clock of Redis anybody waits for the answer (0:
-- for ever); the script's own begin at 4.
local wait, active, prioritized, delayed, completed, failed, meta, events, marker, pc, ids, stalled = unpack(KEYS)
local prefix, now = ARGV[1], tonumber(ARGV[2])
local call = redis.call
local LANE = 0x100000000 -- between the scores of two priorities
local TICK = 0x1000 -- between the scores of two milliseconds
local SKEW = 300000 -- milliseconds by which the clocks of a fleet may differ
-- By the numbers of priorities: bytes, and as `number:jobs` jobs, of what waits, is put off or worked on. Other workers do not
-- keep it: it is right again whenever it is counted.
local usage = prefix .. 'buttress:usage'
-- By number and name, as `number jobs name`: jobs, bytes, and how many of the jobs are put off. Other workers do not keep it
-- either: it is believed where it agrees with how many jobs there are, and right again when all of them have been looked at.
local types = prefix .. 'buttress:types'

if ARGV[3] ~= '0' then
  local time = call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[3]) then
    return redis.error_reply('BUTTRESSLATE nobody waits for this any more')
  end
end

local function halted()
  local state = call('HMGET', meta, 'paused', 'concurrency')
  return state[1] or (state[2] and call('LLEN', active) >= tonumber(state[2]))
end

local longest
local function tell(...)
  longest = longest or call('HGET', meta, 'opts.maxLenEvents') or 10000
  call('XADD', events, 'MAXLEN', '~', longest, '*', 'event', ...)
end

-- As a bound of a range that it is not in. Lua's own way to write a number would round it.
local function below(score)
  return string.format('(%.0f', score)
end

-- The range of scores of a priority.
local function lane(priority)
  return priority * LANE, (priority + 1) * LANE - 1
end

-- Whether the time of a job that waits has not come: whoever pushed it had a clock that is far ahead of this one, or this one was
-- set back. Answers when it is due. What others push is due when they say so: its time is whatever they like.
local function is_early(due, pushed, size)
  due = tonumber(due or (size and pushed)) or now
  return due > now + SKEW and due
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
  return is_early(unpack(call('HMGET', key, 'bt:due', 'timestamp', 'bt:size'))) and 'delayed' or 'waiting'
end

local function forget(id)
  local key = prefix .. id
  call('DEL', key, key .. ':logs', key .. ':lock', key .. ':dependencies', key .. ':processed', key .. ':failed',
    key .. ':unsuccessful')
end

-- So many bytes and jobs more, or fewer, of this priority.
local changes = {}
local function use_room(priority, bytes, jobs)
  local change = changes[priority] or { 0, 0 }
  changes[priority] = { change[1] + bytes, change[2] + jobs }
end

-- So many more, or fewer, of this priority and name.
local type_changes = {}
local function count_type(priority, what, name, more)
  local field = priority .. ' ' .. what .. ' ' .. name
  type_changes[field] = (type_changes[field] or 0) + more
end

-- One job more, or less, of this priority, name and size.
local function use(priority, name, size, jobs)
  use_room(priority, size * jobs, jobs)
  count_type(priority, 'jobs', name, jobs)
  count_type(priority, 'bytes', name, size * jobs)
end

-- What is done once, at the end: what was used is written down, and workers of any language that wait are woken when there is
-- something to claim, or told when there will be.
local woken, later = false, false
local function finish()
  for priority, change in pairs(changes) do
    call('HINCRBY', usage, priority, change[1])
    call('HINCRBY', usage, priority .. ':jobs', change[2])
  end
  for field, more in pairs(type_changes) do
    if more ~= 0 and call('HINCRBY', types, field, more) == 0 then
      call('HDEL', types, field)
    end
  end
  if woken and not halted() then
    call('ZADD', marker, 0, '0')
  end
  local first = later and call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if first then
    call('ZADD', marker, math.floor(tonumber(first) / TICK), '1')
  end
end

-- Puts a job of this priority and name off until then, after those of the same millisecond.
local put_off_last = {}
local function put_off(id, due, priority, name)
  local before = put_off_last[due]
    or call('ZREVRANGEBYSCORE', delayed, due * TICK + TICK - 1, due * TICK, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  put_off_last[due] = before and math.min(tonumber(before) + 1, due * TICK + TICK - 1) or due * TICK
  call('ZADD', delayed, put_off_last[due], id)
  count_type(priority, 'delayed', name, 1)
  call('HSET', prefix .. id, 'delay', math.max(due - now, 0), 'bt:due', due)
  tell('delayed', 'jobId', id, 'delay', due)
  later = true
end

-- What a claim wrote down of a job: how often it had been handed out, with which lock, and its place before. It counts for as
-- long as nobody else has had the job since.
local function hold(key, times, lock, place)
  call('HSET', key, 'processedOn', now, 'ats', times, 'bt:held', times .. ' ' .. lock .. ' ' .. place)
end

local function held(key)
  local fields = call('HMGET', key, 'ats', 'bt:held')
  if fields[1] and fields[2] then
    local times, lock, place = string.match(fields[2], '^(%S+) (%S+) (%S*)$')
    if times == fields[1] then
      return lock, place
    end
  end
end

-- Whether a job, which `has` this lock now, is still that of whoever had the other: that may be over, as long as nobody was given the job since.
local function holds(id, lock, has)
  local key = prefix .. id
  if has and has ~= '' then
    return has == lock
  end
  return held(key) == lock and call('LPOS', active, id)
end

-- Puts a job that was taken out of the active ones where it was before; where that is not known before all of its priority.
local function give_back(id)
  local key = prefix .. id
  local priority = tonumber(call('HGET', key, 'priority')) or 0
  if priority == 0 then
    call('RPUSH', wait, id)
  else
    local _, place = held(key)
    place = tonumber(place or '')
    call('ZADD', prioritized, place and math.floor(place / LANE) == priority and place or priority * LANE, id)
  end
  tell('waiting', 'jobId', id, 'prev', 'active')
end

-- What is worked on; of more than so many some, and others a moment later.
local WINDOW = 1000
local function worked_on()
  local from = math.floor(now / 100) % math.ceil(math.max(call('LLEN', active), 1) / WINDOW) * WINDOW
  return call('LRANGE', active, -from - WINDOW, -from - 1)
end

-- Puts back whatever nobody holds the lock of any more, and counts that it stalled. BullMQ's own check looks twice, at intervals
-- that the slowest worker of a fleet sets; a lease is to be over when it is.
local function take_back()
  local back = 0
  for _, id in ipairs(worked_on()) do
    local key = prefix .. id
    if call('EXISTS', key .. ':lock') == 0 then
      call('LREM', active, 1, id)
      call('SREM', stalled, id)
      if call('EXISTS', key) == 1 then
        call('HINCRBY', key, 'stc', 1)
        give_back(id)
        tell('stalled', 'jobId', id)
        back = back + 1
      end
    end
  end
  woken = woken or back > 0
  return back
end

