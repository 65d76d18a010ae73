-- Renews the leases of the jobs that a worker holds. Refuses a token that is no longer current.
-- ARGV: now, worker, lease in ms, then pairs of id, attempt
-- Returns the ids that are no longer the worker's.
local lost = {}
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local f = fields_of(id, 'status', 'attempt', 'updated_by')
  if owns(f, ARGV[i + 1], ARGV[2]) then
    call('ZADD', P .. 'leases:' .. type_of(id), 'XX', NOW + tonumber(ARGV[3]), id)
  else
    not_held(ARGV[2], id, f[1], f[3])
    lost[#lost + 1] = id
  end
end
return lost
