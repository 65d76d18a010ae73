-- Sets when a job is forgotten: seconds from now if it has ended, else from its end. Empty seconds keep it for ever.
-- ARGV: now, id, seconds
-- Returns 1, or 0 if there is no such job, it is a part of another, or it is being forgotten already (score 0).
local id, seconds = ARGV[2], ARGV[3]
local f = fields_of(id, 'status', 'parent')
if not f[1] or f[2] or call('ZSCORE', P .. 'expiry', id) == '0' then return 0 end
if not FINAL[f[1]] then
  call('HSET', P .. 'expire_after', id, seconds)
elseif seconds == '' then
  call('ZREM', P .. 'expiry', id)
else
  call('ZADD', P .. 'expiry', math.max(1, NOW + tonumber(seconds) * 1000), id)
  hint('janitor')
end
return 1
