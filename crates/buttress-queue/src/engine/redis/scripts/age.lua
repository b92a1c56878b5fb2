-- Moves what has waited for long up by a priority for each so many milliseconds, in the order in which it came.
-- ARGV: milliseconds, then the priorities below the highest, of which the first is as high as anything gets.
local step, moved = tonumber(ARGV[3]), 0
for from = 5, #ARGV do
  local low, high = lane(tonumber(ARGV[from]))
  for _, id in ipairs(call('ZRANGEBYSCORE', prioritized, low, high, 'LIMIT', 0, 100)) do
    local key = prefix .. id
    local since = tonumber(call('HGET', key, 'timestamp')) or now
    local to = math.max(4, from - math.floor((now - since) / step))
    if to < from then
      local place = tonumber(call('ZSCORE', prioritized, id)) % LANE
      call('ZADD', prioritized, tonumber(ARGV[to]) * LANE + place, id)
      call('HSETNX', key, 'bt:priority', ARGV[from])
      call('HSET', key, 'priority', ARGV[to])
      moved = moved + 1
    end
  end
end
return moved
