-- Completes jobs: writes what the attempts found out, once, and makes them done.
-- ARGV: now, worker, count of jobs, then for each: id, attempt, n facts, fact pairs...
-- Returns for each job 1, or 0 if the token is no longer current: then nothing of it was written.
local worker, reply, at, ended = ARGV[2], {}, 4, {}
for _ = 1, tonumber(ARGV[3]) do
  local id, attempt, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  at = first + 2 * n
  local facts = {unpack(ARGV, first, at - 1)}
  local f = read_for_end(id, facts)
  if owns(f[1], f[2], attempt) then
    local kind = type_of(id)
    ended[kind] = ended[kind] or {}
    push(ended[kind], id)
    finish(id, f[1], 'done', worker, facts, '100', f)
    reply[#reply + 1] = 1
  else
    not_held(worker, id, f[1], f[3])
    reply[#reply + 1] = 0
  end
end
for kind, ids in pairs(ended) do
  in_parts('ZREM', P .. 'leases:' .. kind, ids)
  in_parts('SREM', P .. 'held:' .. worker, ids)
end
return reply
