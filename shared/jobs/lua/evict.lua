-- Takes back at once whatever a worker holds that is known to be gone (its pod is deleted, its process ended).
-- ARGV: now, by whom, worker, charge 0/1
-- Returns {id, outcome, ...}
-- With: queue, ending
local by, worker, reply = ARGV[2], ARGV[3], {}
for _, id in ipairs(call('SMEMBERS', P .. 'held:' .. worker)) do
  local f = fields_of(id, 'status', 'updated_by', 'owner', 'priority')
  if WORKING[f[1] or ''] and f[2] == worker then
    reply[#reply + 1] = id
    if ARGV[4] == '1' then
      reply[#reply + 1] = lose(id, f[1], worker, by, 'lost its worker ' .. worker .. ', which is gone', 0)
    else
      enqueue(id, type_of(id), f[3] or 'anonymous', tonumber(f[4]) or 0, true)
      leave_lease(id, type_of(id), worker)
      move(id, f[1], 'new', by)
      reply[#reply + 1] = 'released'
    end
  end
end
call('DEL', P .. 'held:' .. worker, P .. 'worker:' .. worker)
call('ZREM', P .. 'workers', worker)
call('SREM', P .. 'retiring', worker)
return reply
