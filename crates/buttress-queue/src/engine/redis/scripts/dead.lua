-- Jobs that failed for good, the oldest first.
-- ARGV: how many, then the time and the ids after which (any of them; none: from the start).
local most, place = tonumber(ARGV[4]), 0
if #ARGV > 4 then
  local at
  for candidate = 6, #ARGV do
    at = at or call('ZRANK', failed, ARGV[candidate])
  end
  -- That one may be gone; what is of the same millisecond goes by the bytes of the ids.
  if at then
    place = at + 1
  else
    place = call('ZCOUNT', failed, '-inf', '(' .. ARGV[5])
    for _, id in ipairs(call('ZRANGEBYSCORE', failed, ARGV[5], ARGV[5])) do
      place = id < ARGV[6] and place + 1 or place
    end
  end
end
local letters = {}
for _, id in ipairs(call('ZRANGE', failed, place, place + most - 1)) do
  local fields = call('HMGET', prefix .. id, 'name', 'data', 'opts', 'timestamp', 'priority', 'bt:key', 'atm', 'stc',
    'failedReason')
  local letter = { id, call('ZSCORE', failed, id) }
  for field = 1, 9 do
    letter[field + 2] = fields[field] or ''
  end
  table.insert(letters, letter)
end
return letters
