-- Says of dead jobs how often they were tried (`tried`: id, count), or makes ready for a replay (`replay`: ids); answers
-- which of the ids are dead.
local dead = {}
if ARGV[3] == 'tried' then
  if call('ZSCORE', failed, ARGV[4]) then
    call('HSET', prefix .. ARGV[4], 'atm', ARGV[5])
    table.insert(dead, ARGV[4])
  end
else
  for at = 4, #ARGV do
    if call('ZSCORE', failed, ARGV[at]) then
      if ARGV[3] == 'replay' then
        call('HDEL', prefix .. ARGV[at], 'stc', 'defa')
      end
      table.insert(dead, ARGV[at])
    end
  end
end
return dead
