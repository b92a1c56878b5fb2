-- Ends claims. Answers for each: done, lost, or `hand` and the id: BullMQ's own script has to do it, with a lock that is empty.
-- ARGV, for each: id, what it may be known by otherwise, lock, then `done`, `release`, `defer` with a time, `retry` with a time
-- and a reason, or `bury` with a count and a reason.
local HANDED = 10000
-- What is told to Redis once for all: the locks there are, and in the end what has become of the jobs.
local locks, tied = {}, false
local over, gone, sets = {}, {}, { [completed] = {}, [failed] = {} }

local function look_at_locks()
  local keys, ties = {}, {}
  for at = 4, #ARGV, 6 do
    for candidate = at, at + 1 do
      local key = prefix .. ARGV[candidate]
      table.insert(keys, key .. ':lock')
      table.insert(ties, key .. ':dependencies')
      table.insert(ties, key .. ':unsuccessful')
    end
  end
  for at, lock in ipairs(call('MGET', unpack(keys))) do
    locks[keys[at]] = lock
  end
  tied = call('EXISTS', unpack(ties)) > 0
end

local function ended(id, key, set, field, value, attempts)
  call('HSET', key, field, value, 'finishedOn', now, 'atm', attempts)
  table.insert(sets[set], now)
  table.insert(sets[set], id)
  tell(set == completed and 'completed' or 'failed', 'jobId', id, field, value, 'prev', 'active')
end

local function settle(id, lock, what, number, reason)
  local key = prefix .. id
  if not holds(id, lock, locks[key .. ':lock']) then
    return nil
  end
  local ends = what == 'done' or what == 'bury'
  local fields = call('HMGET', key, 'parentKey', 'deid', 'priority', 'bt:size', 'atm', 'name')
  -- Somebody else's queue waits for it, or it is one of Node's that keep others out.
  if ends and (fields[1] or fields[2]
    or (tied and call('EXISTS', key .. ':dependencies', key .. ':unsuccessful') > 0)) then
    call('SET', key .. ':lock', '', 'PX', HANDED)
    return 'hand ' .. id
  end
  if call('LREM', active, -1, id) == 0 then
    return nil
  end
  table.insert(over, key .. ':lock')
  table.insert(gone, id)
  if ends and fields[4] then
    use(fields[3] or '0', fields[6] or '', tonumber(fields[4]), -1)
  end
  if what == 'done' then
    ended(id, key, completed, 'returnvalue', '""', (tonumber(fields[5]) or 0) + 1)
  elseif what == 'bury' then
    call('HDEL', key, 'defa')
    ended(id, key, failed, 'failedReason', reason, number)
    tell('retries-exhausted', 'jobId', id, 'attemptsMade', number)
  elseif what == 'release' then
    give_back(id)
    woken = true
  else
    if what == 'retry' then
      call('HINCRBY', key, 'atm', 1)
      call('HSET', key, 'failedReason', reason)
    end
    put_off(id, tonumber(number), fields[3] or '0', fields[6] or '')
  end
  return 'done'
end

local answers = {}
look_at_locks()
for at = 4, #ARGV, 6 do
  local answer
  for candidate = at, at + 1 do
    if not answer and ARGV[candidate] ~= '' then
      answer = settle(ARGV[candidate], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    end
  end
  table.insert(answers, answer or 'lost')
end
if #gone > 0 then
  call('DEL', unpack(over))
  call('SREM', stalled, unpack(gone))
end
for set, members in pairs(sets) do
  if #members > 0 then
    call('ZADD', set, unpack(members))
  end
end
finish()
if call('LLEN', active) == 0 and call('LLEN', wait) == 0 and call('ZCARD', prioritized) == 0 then
  tell('drained')
end
return answers
