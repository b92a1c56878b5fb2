-- In how many milliseconds there will be something to claim: 0 for now, -1 for not that anybody knows.
if halted() then
  return -1
end
if call('LLEN', wait) > 0 or call('ZCARD', prioritized) > 0 then
  local most = tonumber(call('HGET', meta, 'max'))
  local used = most and tonumber(call('GET', prefix .. 'limiter') or 0) >= most
  return used and math.max(call('PTTL', prefix .. 'limiter'), 0) or 0
end
local soonest = -1
local function maybe(time)
  soonest = (soonest < 0 or time < soonest) and math.max(time, 0) or soonest
end
local first = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
if first then
  maybe(math.floor(tonumber(first) / TICK) - now)
end
for _, id in ipairs(worked_on()) do
  maybe(call('PTTL', prefix .. id .. ':lock'))
end
return soonest
