-- What is there: rows of state, name, priority, jobs, bytes, oldest. Of each state the first so many are looked at. What is beyond
-- is as it was counted along, by name, where that agrees with how many there are in all: of a name that was not seen none is
-- older than the last that was looked at. Where others took part, and it does not, what is beyond is one row with no name, the
-- priority if that can be told, and as many bytes as the others have on average.
-- ARGV: how many, then the priorities in use.
local most = tonumber(ARGV[4])
local kinds, seen, beyond, rows = {}, {}, {}, {}
local looked_at, looked_bytes, last = 0, 0, 0

local function kind_of(number, name)
  local id = number .. ' ' .. name
  if not kinds[id] then
    kinds[id] = { number, name, waiting = { 0, 0 }, delayed = { 0, 0 }, active = { 0, 0 }, since = 0, due = 0, early = 0 }
    table.insert(seen, kinds[id])
  end
  return kinds[id]
end

local function look(state, list, is_due)
  looked_at, looked_bytes, last = 0, 0, 0
  for _, id in ipairs(list) do
    local job = call('HMGET', prefix .. id, 'name', 'priority', 'bt:due', 'timestamp', 'bt:size')
    if job[1] then
      local kind, bytes = kind_of(job[2] or '0', job[1]), tonumber(job[5]) or call('HSTRLEN', prefix .. id, 'data')
      local early = state == 'waiting' and is_early(job[3], job[4], job[5])
      local of = kind[early and 'delayed' or state]
      of[1], of[2] = of[1] + 1, of[2] + bytes
      looked_at, looked_bytes = looked_at + 1, looked_bytes + bytes
      kind.due, kind.early = kind.due + (is_due and 1 or 0), kind.early + (early and 1 or 0)
      if state == 'waiting' and not early then
        last = tonumber(job[3] or job[4]) or now
        kind.since = (kind.since == 0 or last < kind.since) and last or kind.since
      end
    end
  end
  return #list
end

local function row(state, name, number, jobs, bytes, since)
  if jobs > 0 then
    table.insert(rows, { state, name, number, jobs, bytes, since or 0 })
  end
end

local function rest(state, number, jobs)
  if jobs > 0 then
    table.insert(beyond, { state, number, jobs, math.floor(jobs * looked_bytes / math.max(looked_at, 1)) })
  end
end

local active_jobs, delayed_jobs, over = call('LLEN', active), call('ZCARD', delayed), (now + 1) * TICK
rest('active', '0', active_jobs - look('active', call('LRANGE', active, 0, most - 1)))
local due = call('ZRANGEBYSCORE', delayed, '-inf', below(over), 'LIMIT', 0, most)
rest('waiting', '0', call('ZCOUNT', delayed, '-inf', below(over)) - look('waiting', due, true))
-- These are seen by their names, one for one, or nobody knows.
local blind = #beyond > 0
local later = call('ZRANGEBYSCORE', delayed, over, '+inf', 'LIMIT', 0, most)
rest('delayed', '0', call('ZCOUNT', delayed, over, '+inf') - look('delayed', later))
rest('waiting', '0', call('LLEN', wait) - look('waiting', call('LRANGE', wait, -most, -1)))
local unseen, from, lasts = last, '-inf', {}
for at = 5, #ARGV do
  local to = at == #ARGV and '+inf' or below(tonumber(ARGV[at + 1]) * LANE)
  local looked = look('waiting', call('ZRANGEBYSCORE', prioritized, from, to, 'LIMIT', 0, most))
  rest('waiting', ARGV[at], call('ZCOUNT', prioritized, from, to) - looked)
  lasts[at] = last
  from = string.format('%.0f', tonumber(ARGV[at + 1] or 0) * LANE)
end

-- Since when the oldest of this priority could be claimed that was not looked at, at the earliest.
local function since_of(number)
  local since = lasts[5]
  for at = 5, #ARGV do
    since = tonumber(number) >= tonumber(ARGV[at]) and lasts[at] or since
  end
  return number == '0' and unseen or since
end

-- What was counted along, of each name; nothing where it is not true of all.
local function counted_along()
  local of, jobs, put_off_jobs = {}, 0, 0
  local fields = call('HGETALL', types)
  for at = 1, #fields, 2 do
    local number, what, name = string.match(fields[at], '^(%d+) (%a+) (.*)$')
    local kind = kind_of(number, name)
    of[kind] = of[kind] or { jobs = 0, bytes = 0, delayed = 0 }
    of[kind][what] = tonumber(fields[at + 1])
    jobs = jobs + (what == 'jobs' and of[kind].jobs or 0)
    put_off_jobs = put_off_jobs + (what == 'delayed' and of[kind].delayed or 0)
  end
  if jobs ~= active_jobs + delayed_jobs + call('LLEN', wait) + call('ZCARD', prioritized) or put_off_jobs ~= delayed_jobs then
    return nil
  end
  for _, kind in ipairs(seen) do
    local counted = of[kind]
    if not counted or counted.jobs < 0 then
      return nil
    end
    counted.delayed = counted.delayed - kind.due + kind.early
    counted.waiting = counted.jobs - kind.active[1] - counted.delayed
    if counted.delayed < kind.delayed[1] or counted.waiting < kind.waiting[1] then
      return nil
    end
  end
  return of
end

local whole = #beyond == 0
local counted = not whole and not blind and counted_along()
if whole then
  call('DEL', types)
end
for _, kind in ipairs(seen) do
  local number, name = kind[1], kind[2]
  row('active', name, number, kind.active[1], kind.active[2])
  if counted then
    local of = counted[kind]
    local bytes = math.max(of.bytes - kind.active[2], 0)
    row('waiting', name, number, of.waiting, bytes, kind.since > 0 and kind.since or since_of(number))
    row('delayed', name, number, of.delayed, of.waiting > 0 and 0 or bytes)
  else
    row('waiting', name, number, kind.waiting[1], kind.waiting[2], kind.since)
    row('delayed', name, number, kind.delayed[1], kind.delayed[2])
  end
  if whole then
    count_type(number, 'jobs', name, kind.active[1] + kind.waiting[1] + kind.delayed[1])
    count_type(number, 'bytes', name, kind.active[2] + kind.waiting[2] + kind.delayed[2])
    count_type(number, 'delayed', name, kind.delayed[1] + kind.due - kind.early)
  end
end
for _, of in ipairs(counted and {} or beyond) do
  row(of[1], '', of[2], of[3], of[4])
end

call('DEL', usage)
for _, of in ipairs(rows) do
  use_room(of[3], of[5], of[4])
  of[4], of[5], of[6] = tostring(of[4]), string.format('%.0f', of[5]), string.format('%.0f', of[6])
end
finish()
return { call('ZCARD', failed), rows }
