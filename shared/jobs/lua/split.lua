-- Splits a job into children, once, and makes it wait for them. Children take its owner, priority and turn.
-- ARGV: now, worker, id, attempt, n facts, fact pairs..., count of children, then for each child:
--   type, n facts, fact pairs...
-- Returns the number of children; -1 if the token is no longer current; -2 if the job was split before.
-- With: queue, ending
local worker, id, attempt = ARGV[2], ARGV[3], ARGV[4]
local f = fields_of(id, 'status', 'attempt', 'updated_by', 'owner', 'priority', 'max_attempts')
if not owns(f, attempt, worker) then
  not_held(worker, id, f[1], f[3])
  return -1
end
local children = P .. 'children:' .. id
if call('EXISTS', children) == 1 then return -2 end
local n_facts = tonumber(ARGV[5])
local at = 6 + 2 * n_facts
local total = tonumber(ARGV[at])
local facts, hashes = {'total_jobs', tostring(total), unpack(ARGV, 6, at - 1)}, {}
local hex = string.match(id, ':(.+)$')
at = at + 1
for number = 1, total do
  local kind, n = ARGV[at], tonumber(ARGV[at + 1])
  local child = kind .. ':' .. hex .. '.' .. number
  local fields = {'type', kind, 'owner', f[4], 'priority', f[5], 'max_attempts', f[6] or '3', 'parent', id, 'part', tostring(number),
    'created_at', stamp(), 'created_ms', NOW, 'updated_at', stamp(), 'updated_by', worker, 'status', 'new', 'progress', '0', 'attempt', '0',
    'losses', '0', unpack(ARGV, at + 2, at + 1 + 2 * n)}
  add(hashes, child, fields)
  gather(child, kind, f[4], tonumber(f[5]) or 0)
  at = at + 2 + 2 * n
end
enqueue_gathered()  -- first, as in submit: where a queue is of a wrong kind, the job is still to be split
for i = 1, #hashes, 2 do
  call('HSET', job_key(hashes[i]), unpack(hashes[i + 1]))
  call('RPUSH', children, hashes[i])
end
write_facts(id, facts, 'found_by_split')
call('SET', P .. 'open:' .. id, total)
leave_lease(id, type_of(id), worker)
move(id, f[1], 'waiting', worker, 'progress', '0')
return total
