-- Hands jobs back unfinished, at the front of their queue; charges nothing. For workers that stop.
-- ARGV: now, worker, then pairs of id, attempt
-- Returns how many were handed back; those with an old token are left alone.
-- With: queue
local worker, released = ARGV[2], 0
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local f = fields_of(id, 'status', 'attempt', 'updated_by', 'owner', 'priority')
  if owns(f, ARGV[i + 1], worker) then
    enqueue(id, type_of(id), f[4] or 'anonymous', tonumber(f[5]) or 0, true)
    leave_lease(id, type_of(id), worker)
    move(id, f[1], 'new', worker)
    released = released + 1
  else
    not_held(worker, id, f[1], f[3])
  end
end
return released
