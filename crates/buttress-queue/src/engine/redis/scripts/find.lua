-- Where the first of these ids stands that is known: id, state, attempts, crashes; or nothing.
-- ARGV: how long what is done is remembered for, then ids.
for at = 5, #ARGV do
  local state = standing(ARGV[at], tonumber(ARGV[4]))
  if state then
    local counts = call('HMGET', prefix .. ARGV[at], 'atm', 'stc')
    return { ARGV[at], state, counts[1] or '0', counts[2] or '0' }
  end
end
return false
