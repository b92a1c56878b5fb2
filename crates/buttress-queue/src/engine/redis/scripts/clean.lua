-- Forgets what ended before a time, and the oldest of what is more than there may be; answers how many were looked at, and those that
-- BullMQ itself has to remove, because others wait for them.
-- ARGV: `completed` or `failed`, the time, how many; how many may be left and how many bytes, or -1 for any.
local set = ARGV[4] == 'failed' and failed or completed
local others = {}
local limit, most, bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local over = call('ZRANGEBYSCORE', set, '-inf', '(' .. ARGV[5], 'LIMIT', 0, limit)

-- How many of those that are left are too many, by their number and by their bytes: of those beyond the oldest as many as these have
-- on average.
local function too_many(left)
  local beyond = most >= 0 and left - most or 0
  if bytes < 0 or left <= 0 then
    return beyond
  end
  local sizes, total = {}, 0
  for at, id in ipairs(call('ZRANGE', set, #over, #over + limit - 1)) do
    sizes[at] = tonumber(call('HGET', prefix .. id, 'bt:size') or 0)
    total = total + sizes[at]
  end
  total = total / #sizes * left
  for at, size in ipairs(sizes) do
    if total <= bytes then
      return math.max(beyond, at - 1)
    end
    total = total - size
  end
  return math.max(beyond, #sizes)
end

if most >= 0 or bytes >= 0 then
  local beyond = math.min(too_many(call('ZCARD', set) - #over), limit - #over)
  if beyond > 0 then
    for _, id in ipairs(call('ZRANGE', set, #over, #over + beyond - 1)) do
      table.insert(over, id)
    end
  end
end
for _, id in ipairs(over) do
  local ties = call('HMGET', prefix .. id, 'parentKey', 'deid')
  if ties[1] or ties[2] then
    table.insert(others, id)
  else
    call('ZREM', set, id)
    forget(id)
  end
end
return { #over, others }
