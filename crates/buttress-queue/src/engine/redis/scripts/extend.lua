-- Has a lock last for so many milliseconds from now: answers 1, or 0 when somebody else has the job or nobody may.
-- ARGV: lock, milliseconds, then what the job may be known by.
for at = 6, #ARGV do
  local id = ARGV[at]
  if holds(id, ARGV[4], call('GET', prefix .. id .. ':lock')) then
    call('SET', prefix .. id .. ':lock', ARGV[4], 'PX', ARGV[5])
    call('SREM', stalled, id)
    return 1
  end
end
return 0
