-- Completes jobs: writes what the attempts found out, once, and makes them done.
-- ARGV: now, worker, count of jobs, then for each: id, attempt, n facts, fact pairs...
-- Returns for each job 1, or 0 if the token is no longer current or another's: then nothing of it was written.
-- With: queue, ending
local worker, reply, at, ended = ARGV[2], {}, 4, {}
for number = 1, tonumber(ARGV[3]) do
  local id, attempt, after = ARGV[at], ARGV[at + 1], at + 3 + 2 * tonumber(ARGV[at + 2])
  local facts = {unpack(ARGV, at + 3, after - 1)}
  at = after
  local f = read_for_end(id, facts)
  if owns(f, attempt, worker) then
    finish(id, f[1], 'done', worker, facts, '100', f)
    local kind = type_of(id)
    ended[kind] = ended[kind] or {}
    ended[kind][#ended[kind] + 1] = id
    reply[number] = 1
  else
    not_held(worker, id, f[1], f[3])
    reply[number] = 0
  end
end
for kind, ids in pairs(ended) do
  in_parts('ZREM', P .. 'leases:' .. kind, ids)
  in_parts('SREM', P .. 'held:' .. worker, ids)
end
return reply
