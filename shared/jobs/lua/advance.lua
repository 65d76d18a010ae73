-- Says how far a job has come: moves its state among the working ones and its progress. Writes companions only.
-- ARGV: now, worker, id, attempt, state, progress (or empty)
-- Returns 1, or 0 if the token is no longer current.
local id, to = ARGV[3], ARGV[5]
local f = call('HMGET', job_key(id), 'status', 'attempt')
if not owns(f[1], f[2], ARGV[4]) then return 0 end
if not WORKING[to] then return redis.error_reply('TRANSITION ' .. id .. ' from ' .. f[1] .. ' to ' .. to) end
if ARGV[6] == '' then move(id, f[1], to, ARGV[2]) else move(id, f[1], to, ARGV[2], 'progress', ARGV[6]) end
return 1
