-- Takes jobs in. Answers for each: new, lane (which is full), total (which is), or where the one stands that is known.
-- ARGV: how long what is done is remembered for, the most jobs and bytes there may be, and for each job: id, name, data, opts,
-- time, due, priority, the most jobs and bytes of that priority, size, key.
local age, most_jobs, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local answers = {}

local jobs = call('LLEN', wait) + call('LLEN', active) + call('ZCARD', prioritized) + call('ZCARD', delayed)
local bytes, there = 0, {}
local fields = call('HGETALL', usage)
for at = 1, #fields, 2 do
  there[fields[at]] = tonumber(fields[at + 1])
  bytes = bytes + (string.find(fields[at], ':') and 0 or there[fields[at]])
end

local function count(field, more)
  there[field] = (there[field] or 0) + more
  return there[field]
end

local function store(id, at, due, priority)
  local key = prefix .. id
  call('INCR', ids)
  call('HSET', key, 'name', ARGV[at + 1], 'data', ARGV[at + 2], 'opts', ARGV[at + 3], 'timestamp', ARGV[at + 4], 'delay', 0,
    'priority', priority, 'bt:size', ARGV[at + 9])
  if ARGV[at + 10] ~= '' then
    call('HSET', key, 'bt:key', ARGV[at + 10])
  end
  tell('added', 'jobId', id, 'name', ARGV[at + 1])
  if due > now then
    return put_off(id, due, priority, ARGV[at + 1])
  end
  if due ~= tonumber(ARGV[at + 4]) then
    call('HSET', key, 'bt:due', due)
  end
  call('ZADD', prioritized, priority * LANE + call('INCR', pc) % LANE, id)
  woken = true
  tell('waiting', 'jobId', id)
end

local function take(at)
  local id, due, priority, size = ARGV[at], tonumber(ARGV[at + 5]), ARGV[at + 6], tonumber(ARGV[at + 9])
  local known = standing(id, age)
  if known then
    tell('duplicated', 'jobId', id)
    return known
  end
  if count(priority .. ':jobs', 0) >= tonumber(ARGV[at + 7]) or count(priority, size) > tonumber(ARGV[at + 8]) then
    count(priority, -size)
    return 'lane'
  end
  if jobs >= most_jobs or bytes + size > most_bytes then
    count(priority, -size)
    return 'total'
  end
  -- Done, and remembered no longer.
  if call('ZREM', completed, id) == 1 then
    forget(id)
  end
  store(id, at, due, tonumber(priority))
  use(priority, ARGV[at + 1], size, 1)
  count(priority .. ':jobs', 1)
  jobs, bytes = jobs + 1, bytes + size
  return 'new'
end

for at = 7, #ARGV, 11 do
  table.insert(answers, take(at))
end
finish()
return answers
