-- Does something for who has the lock of a job: answers 1, or 0 when somebody else has it or nobody.
-- ARGV: id, token, then `extend` and milliseconds, `failed` and a reason (counts an attempt), or `hand` (to whom has no token).
local id, token, what = ARGV[3], ARGV[4], ARGV[5]
local key = prefix .. id
if call('GET', key .. ':lock') ~= token then
  return 0
end
if what == 'extend' then
  call('PEXPIRE', key .. ':lock', ARGV[6])
  call('SREM', stalled, id)
elseif what == 'failed' then
  call('HINCRBY', key, 'atm', 1)
  call('HSET', key, 'failedReason', ARGV[6])
elseif what == 'hand' then
  call('SET', key .. ':lock', '', 'KEEPTTL')
end
return 1
