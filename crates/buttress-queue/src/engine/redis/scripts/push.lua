-- Takes jobs in. Answers for each: new, lane (which is full), total (which is), or where the one stands that is known.
-- ARGV: how long what is done is remembered for, the most jobs there may be, and for each job: id, name, data, opts, time,
-- due (0: now), priority, the most of that priority, size, key.
local age, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local answers = {}
local woken = false

local function total()
  return call('LLEN', wait) + call('LLEN', active) + call('ZCARD', prioritized) + call('ZCARD', delayed)
end

local function store(id, at, due, priority)
  local key = prefix .. id
  call('INCR', ids)
  call('HSET', key, 'name', ARGV[at + 1], 'data', ARGV[at + 2], 'opts', ARGV[at + 3], 'timestamp', ARGV[at + 4],
    'delay', due > now and due - now or 0, 'priority', priority, 'bt:size', ARGV[at + 8])
  if ARGV[at + 9] ~= '' then
    call('HSET', key, 'bt:key', ARGV[at + 9])
  end
  tell('added', 'jobId', id, 'name', ARGV[at + 1])
  if due <= now then
    call('ZADD', prioritized, priority * LANE + call('INCR', pc) % LANE, id)
    woken = true
    tell('waiting', 'jobId', id)
    return
  end
  -- After those of the same millisecond.
  local last = call('ZREVRANGEBYSCORE', delayed, due * TICK + TICK - 1, due * TICK, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  call('ZADD', delayed, last and math.min(tonumber(last) + 1, due * TICK + TICK - 1) or due * TICK, id)
  tell('delayed', 'jobId', id, 'delay', due)
  local first = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  call('ZADD', marker, math.floor(tonumber(first) / TICK), '1')
end

local function take(at)
  local id, due, priority = ARGV[at], tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local known = standing(id, age)
  if known then
    tell('duplicated', 'jobId', id)
    return known
  end
  local low, high = lane(priority)
  if call('ZCOUNT', prioritized, low, high) >= tonumber(ARGV[at + 7]) then
    return 'lane'
  end
  if total() >= most then
    return 'total'
  end
  -- Done, and remembered no longer.
  if call('ZREM', completed, id) == 1 then
    forget(id)
  end
  store(id, at, due, priority)
  return 'new'
end

for at = 5, #ARGV, 10 do
  table.insert(answers, take(at))
end
if woken then
  wake()
end
return answers
