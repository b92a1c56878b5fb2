-- Throws away the oldest of a priority that nobody works on; answers its id, or nothing.
-- ARGV: the priority.
local low, high = lane(tonumber(ARGV[4]))
local id = call('ZRANGEBYSCORE', prioritized, low, high, 'LIMIT', 0, 1)[1]
local from, state = prioritized, 'prioritized'
if not id then
  for _, candidate in ipairs(call('ZRANGE', delayed, 0, 999)) do
    if call('HGET', prefix .. candidate, 'priority') == ARGV[4] then
      id, from, state = candidate, delayed, 'delayed'
      break
    end
  end
end
if id then
  local job = call('HMGET', prefix .. id, 'bt:size', 'name')
  if job[1] then
    use(ARGV[4], job[2] or '', tonumber(job[1]), -1)
  end
  if from == delayed then
    count_type(ARGV[4], 'delayed', job[2] or '', -1)
  end
  finish()
  call('ZREM', from, id)
  forget(id)
  tell('removed', 'jobId', id, 'prev', state)
end
return id
