-- What is there: rows of state, name, priority, jobs, bytes, oldest. Of each state the first so many are looked at; what is
-- beyond is one row with no name, the priority if that can be told, and as many bytes as the others have on average.
-- ARGV: how many, then the priorities in use.
local most = tonumber(ARGV[4])
local rows, found = {}, {}
local looked_at, looked_bytes = 0, 0

local function row(state, name, priority)
  local id = state .. '\0' .. name .. '\0' .. priority
  if not rows[id] then
    rows[id] = { state, name, tostring(priority), 0, 0, 0 }
    table.insert(found, rows[id])
  end
  return rows[id]
end

local function look(state, list)
  looked_at, looked_bytes = 0, 0
  for _, id in ipairs(list) do
    local job = call('HMGET', prefix .. id, 'name', 'priority', 'bt:due', 'timestamp', 'bt:size')
    if job[1] then
      local of = row(state, job[1], job[2] or 0)
      local bytes = tonumber(job[5]) or call('HSTRLEN', prefix .. id, 'data')
      looked_at, looked_bytes = looked_at + 1, looked_bytes + bytes
      of[4], of[5] = of[4] + 1, of[5] + bytes
      local since = tonumber(job[3] or job[4]) or now
      of[6] = (of[6] == 0 or since < of[6]) and since or of[6]
    end
  end
  return #list
end

local function rest(state, priority, jobs)
  if jobs > 0 then
    local of = row(state, '', priority)
    of[4] = of[4] + jobs
    of[5] = of[5] + math.floor(jobs * looked_bytes / math.max(looked_at, 1))
  end
end

rest('waiting', 0, call('LLEN', wait) - look('waiting', call('LRANGE', wait, -most, -1)))
rest('active', 0, call('LLEN', active) - look('active', call('LRANGE', active, 0, most - 1)))
local over = (now + 1) * TICK
local later = call('ZRANGEBYSCORE', delayed, over, '+inf', 'LIMIT', 0, most)
rest('delayed', 0, call('ZCOUNT', delayed, over, '+inf') - look('delayed', later))
local due = call('ZRANGEBYSCORE', delayed, '-inf', below(over), 'LIMIT', 0, most)
rest('waiting', 0, call('ZCOUNT', delayed, '-inf', below(over)) - look('waiting', due))
local from = '-inf'
for at = 5, #ARGV do
  local to = at == #ARGV and '+inf' or below(tonumber(ARGV[at + 1]) * LANE)
  local looked = look('waiting', call('ZRANGEBYSCORE', prioritized, from, to, 'LIMIT', 0, most))
  rest('waiting', ARGV[at], call('ZCOUNT', prioritized, from, to) - looked)
  from = string.format('%.0f', tonumber(ARGV[at + 1] or 0) * LANE)
end
call('DEL', usage)
for _, of in ipairs(found) do
  use(of[3], of[5] / of[4], of[4])
  of[4], of[5], of[6] = tostring(of[4]), string.format('%.0f', of[5]), tostring(of[6])
end
for priority, change in pairs(changes) do
  changes[priority] = { math.floor(change[1] + 0.5), change[2] }
end
finish()
return { call('ZCARD', failed), found }
