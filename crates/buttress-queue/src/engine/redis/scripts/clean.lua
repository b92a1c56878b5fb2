-- Forgets what ended before a time; answers how many were looked at, and those that BullMQ itself has to remove, because others
-- wait for them.
-- ARGV: `completed` or `failed`, the time, how many.
local set = ARGV[4] == 'failed' and failed or completed
local others = {}
local over = call('ZRANGEBYSCORE', set, '-inf', '(' .. ARGV[5], 'LIMIT', 0, ARGV[6])
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
