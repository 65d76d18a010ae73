-- Says how far jobs have come: moves their state among the working ones and their progress. Writes companions only.
-- ARGV: now, worker, then for each job: id, attempt, state, progress (or empty)
-- Returns for each job 1, or 0 if the token is no longer current.
local reply = {}
for at = 3, #ARGV, 4 do
  local id, to, progress = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  local f = fields_of(id, 'status', 'attempt', 'updated_by')
  if not owns(f, ARGV[at + 1], ARGV[2]) then
    add(reply, 0)
  else
    if not WORKING[to] then return redis.error_reply('TRANSITION ' .. id .. ' from ' .. f[1] .. ' to ' .. to) end
    if progress == '' then move(id, f[1], to, ARGV[2]) else move(id, f[1], to, ARGV[2], 'progress', progress) end
    add(reply, 1)
  end
end
return reply
