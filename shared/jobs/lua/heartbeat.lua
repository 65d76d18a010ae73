-- Says that a worker lives, and what it is.
-- ARGV: now, worker, ms until its word runs out, fact pairs...
-- Returns 1 if it was told to retire, else 0.
local worker = ARGV[2]
call('ZADD', P .. 'workers', NOW + tonumber(ARGV[3]), worker)
if #ARGV > 3 then call('HSET', P .. 'worker:' .. worker, unpack(ARGV, 4)) end
call('PEXPIRE', P .. 'worker:' .. worker, 60000)
return call('SISMEMBER', P .. 'retiring', worker)
