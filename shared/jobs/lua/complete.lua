-- Completes jobs: writes what the attempts found out, once, and makes them done.
-- ARGV: now, worker, count of jobs, then for each: id, attempt, n facts, fact pairs...
-- Returns for each job 1, or 0 if the token is no longer current: then nothing of it was written.
local worker, reply, at = ARGV[2], {}, 4
for _ = 1, tonumber(ARGV[3]) do
  local id, attempt, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  at = first + 2 * n
  local f = call('HMGET', job_key(id), 'status', 'attempt')
  if owns(f[1], f[2], attempt) then
    leave_lease(id, type_of(id), worker)
    finish(id, f[1], 'done', worker, {unpack(ARGV, first, at - 1)}, '100')
    reply[#reply + 1] = 1
  else
    call('SREM', P .. 'held:' .. worker, id)
    reply[#reply + 1] = 0
  end
end
return reply
