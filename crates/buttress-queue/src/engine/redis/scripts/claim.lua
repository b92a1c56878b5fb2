-- Hands out jobs, each with a lock of its own. Answers for each: what its lock ends with, id, and fields.
-- ARGV: how many, milliseconds of the locks, what they begin with, what the first ends with, after how many milliseconds of
-- waiting a job counts as more urgent (0: never), whether to look for leases that are over, the four priorities, and from which
-- to which end of locks nobody heard of what was handed out, each.
local most, lease, owner, token = tonumber(ARGV[4]), ARGV[5], ARGV[6], tonumber(ARGV[7])
local step, look = tonumber(ARGV[8]), ARGV[9] == '1'
local AT_ONCE = 1000 -- are promoted, or put off
local limiter = prefix .. 'limiter'
local claimed = {}

local function promote()
  local due = call('ZRANGEBYSCORE', delayed, '-inf', below((now + 1) * TICK), 'LIMIT', 0, AT_ONCE)
  if #due == 0 then
    return
  end
  call('ZREM', delayed, unpack(due))
  for _, id in ipairs(due) do
    local key = prefix .. id
    local job = call('HMGET', key, 'priority', 'name')
    local priority = tonumber(job[1]) or 0
    count_type(priority, 'delayed', job[2] or '', -1)
    if priority == 0 then
      call('LPUSH', wait, id)
    else
      call('ZADD', prioritized, priority * LANE + call('INCR', pc) % LANE, id)
    end
    call('HSET', key, 'delay', 0)
    tell('waiting', 'jobId', id, 'prev', 'delayed')
  end
  woken = true
end

-- How many may be handed out: what was asked for, within what the queue is allowed.
local function room()
  local rules = call('HMGET', meta, 'paused', 'concurrency', 'max', 'duration')
  local left = rules[1] and 0 or most
  if rules[2] then
    left = math.min(left, tonumber(rules[2]) - call('LLEN', active))
  end
  if rules[3] then
    local count, over = tonumber(call('GET', limiter) or 0), call('PTTL', limiter)
    left = math.min(left, tonumber(rules[3]) - (over > 0 and count or 0))
    if over == 0 then
      call('DEL', limiter)
    end
  end
  return left, rules[3] and tonumber(rules[4])
end

-- The first of each of the four, with the time since when it waits; the lowest holds what is above the last number, too.
local function head(at)
  local from = at == 1 and '-inf' or string.format('%.0f', tonumber(ARGV[9 + at]) * LANE)
  local to = at == 4 and '+inf' or below(tonumber(ARGV[10 + at]) * LANE)
  local id = call('ZRANGEBYSCORE', prioritized, from, to, 'LIMIT', 0, 1)[1]
  if not id then
    return nil
  end
  local since = call('HMGET', prefix .. id, 'bt:due', 'timestamp')
  return { id, math.min(tonumber(since[1] or since[2]) or now, now) }
end

local heads, lanes
local function look_at_heads()
  heads, lanes = {}, 0
  for at = 1, 4 do
    heads[at] = head(at)
    lanes = lanes + (heads[at] and 1 or 0)
  end
end

-- Takes the most urgent one, where what has waited counts as more urgent, but never as critical; of equals the one that waited
-- longer.
local function aged()
  local best, best_at, best_rank
  for at = 1, 4 do
    local first = heads[at]
    if first then
      local rank = math.max(at - math.floor((now - first[2]) / step), math.min(at, 2))
      if not best or rank < best_rank or (rank == best_rank and first[2] < best[2]) then
        best, best_at, best_rank = first, at, rank
      end
    end
  end
  local place = call('ZSCORE', prioritized, best[1])
  call('ZREM', prioritized, best[1])
  call('LPUSH', active, best[1])
  heads[best_at] = head(best_at)
  lanes = lanes - (heads[best_at] and 0 or 1)
  return best[1], place
end

-- Jobs that were taken together, with their places, and how many of them have been handed out.
local taken, given = {}, 0
local function next_prioritized(left)
  if step > 0 and not heads then
    look_at_heads()
  end
  if step > 0 and lanes > 1 then
    return aged()
  end
  if given == #taken then
    taken, given = call('ZPOPMIN', prioritized, left), 0
    local ids_taken = {}
    for at = 1, #taken, 2 do
      table.insert(ids_taken, taken[at])
    end
    if #ids_taken == 0 then
      return nil
    end
    call('LPUSH', active, unpack(ids_taken))
  end
  given = given + 2
  return taken[given - 1], taken[given]
end

local none_waits = false
local function next_job(left)
  local id = not none_waits and call('RPOPLPUSH', wait, active)
  if id then
    return id, ''
  end
  none_waits = true
  return next_prioritized(left)
end

-- Whether there may be another.
local early = 0
local function claim(left, duration)
  local id, place = next_job(left - #claimed)
  if not id then
    return false
  end
  local key = prefix .. id
  local fields = call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'priority', 'bt:key', 'atm', 'stc', 'defa', 'ats',
    'bt:due', 'bt:size')
  -- Removed by somebody, or a mark that older versions of BullMQ made.
  if not fields[1] then
    call('LREM', active, 1, id)
    return true
  end
  local due = is_early(fields[11], fields[4], fields[12])
  if due then
    call('LREM', active, 1, id)
    put_off(id, due, fields[5] or '0', fields[1])
    early = early + 1
    -- Of those that were taken together none is left behind.
    return early < AT_ONCE or given < #taken
  end
  if duration and not fields[9] and call('INCR', limiter) == 1 then
    call('PEXPIRE', limiter, math.floor(duration))
  end
  local lock = string.format('%s%.0f', owner, token)
  call('SET', key .. ':lock', lock, 'PX', lease)
  hold(key, string.format('%.0f', (tonumber(fields[10]) or 0) + 1), lock, place)
  tell('active', 'jobId', id, 'prev', 'waiting')
  local job = { string.format('%.0f', token), id }
  for field = 1, 9 do
    job[field + 2] = fields[field] or ''
  end
  table.insert(claimed, job)
  token = token + 1
  return true
end

-- Puts back what was handed out to nobody.
local function disown()
  for _, id in ipairs(#ARGV > 13 and call('LRANGE', active, 0, -1) or {}) do
    local lock = call('GET', prefix .. id .. ':lock')
    local ends = lock and string.sub(lock, 1, #owner) == owner and tonumber(string.sub(lock, #owner + 1))
    for at = 14, ends and #ARGV or 0, 2 do
      if ends >= tonumber(ARGV[at]) and ends <= tonumber(ARGV[at + 1]) then
        call('DEL', prefix .. id .. ':lock')
        call('LREM', active, -1, id)
        give_back(id)
        woken = true
        break
      end
    end
  end
end

disown()
if look then
  take_back()
end
promote()
local left, duration = room()
while #claimed < left and claim(left, duration) do
end
-- Nothing is there, unless somebody's lease has just come to its end.
if left > 0 and #claimed == 0 and not look and take_back() > 0 then
  heads, none_waits = nil, false
  while #claimed < left and claim(left, duration) do
  end
end
finish()
return claimed
