-- Where the first of these ids stands that is known: id, state, attempts, crashes; or nothing.
-- ARGV: how long what is done is remembered for, then ids.
for at = 5, #ARGV do
  local state = standing(ARGV[at], tonumber(ARGV[4]))
  if state then
    local counts = call('HMGET', prefix .. ARGV[at], 'atm', 'stc')
    local failed_attempts = tonumber(counts[1]) or 0
    -- BullMQ counts the one that went well, too.
    if state == 'done' and failed_attempts > 0 then
      failed_attempts = failed_attempts - 1
    end
    return { ARGV[at], state, tostring(failed_attempts), counts[2] or '0' }
  end
end
return false
