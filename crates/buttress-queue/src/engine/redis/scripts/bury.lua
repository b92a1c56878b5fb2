-- Answers which of these are dead. ARGV: `tried`, id and how often it was tried, which is written down; or `discard` or
-- `replay` and ids. What is replayed begins anew, and takes room again.
local dead = {}
for at = 5, ARGV[4] == 'tried' and 5 or #ARGV do
  local id = ARGV[at]
  local key = prefix .. id
  if call('ZSCORE', failed, id) then
    table.insert(dead, id)
    if ARGV[4] == 'tried' then
      call('HSET', key, 'atm', ARGV[6])
    elseif ARGV[4] == 'replay' then
      local job = call('HMGET', key, 'priority', 'bt:size', 'name')
      if job[2] then
        use(job[1] or '0', job[3] or '', tonumber(job[2]), 1)
      end
      call('HDEL', key, 'stc', 'defa')
      call('HSET', key, 'bt:due', now)
    end
  end
end
finish()
return dead
