-- In how many milliseconds there will be something to claim: 0 for now, -1 for not that anybody knows.
if halted() then
  return -1
end
if call('LLEN', wait) > 0 or call('ZCARD', prioritized) > 0 then
  return 0
end
local soonest = -1
local function maybe(time)
  soonest = (soonest < 0 or time < soonest) and math.max(time, 0) or soonest
end
local first = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
if first then
  maybe(math.floor(tonumber(first) / TICK) - now)
end
for _, id in ipairs(call('LRANGE', active, 0, -1)) do
  maybe(call('PTTL', prefix .. id .. ':lock'))
end
return soonest
