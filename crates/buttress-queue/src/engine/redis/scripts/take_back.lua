-- Puts back whatever nobody holds the lock of any more, before everything of its priority, and counts that it stalled.
-- BullMQ's own check looks twice, at intervals that the slowest worker of a fleet sets; a lease is to be over when it is.
local back = 0
for _, id in ipairs(call('LRANGE', active, 0, -1)) do
  local key = prefix .. id
  if call('EXISTS', key .. ':lock') == 0 then
    call('LREM', active, 1, id)
    call('SREM', stalled, id)
    if call('EXISTS', key) == 1 then
      call('HINCRBY', key, 'stc', 1)
      local priority = tonumber(call('HGET', key, 'priority')) or 0
      if priority > 0 then
        call('ZADD', prioritized, priority * LANE, id)
      else
        call('RPUSH', wait, id)
      end
      tell('waiting', 'jobId', id, 'prev', 'active')
      tell('stalled', 'jobId', id)
      back = back + 1
    end
  end
end
if back > 0 then
  wake()
end
return back
