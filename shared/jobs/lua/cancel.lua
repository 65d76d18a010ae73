-- Cancels a job and its children: waiting ones at once; the worker of a running one is woken, and its token refused.
-- ARGV: now, who cancels, reason, id
-- Returns how many jobs were canceled now; -1 if there is no such job.
-- With: queue, ending
local by, reason, canceled = ARGV[2], ARGV[3], 0

local function cancel(id)
  local f = fields_of(id, 'status', 'owner', 'updated_by')
  local status, kind = f[1], type_of(id)
  if not status then return false end
  if not FINAL[status] then
    local holder = WORKING[status] and f[3]
    finish(id, status, 'canceled', by, {'reason', reason})
    leave_queue(id, kind, f[2] or 'anonymous')
    leave_lease(id, kind, holder)
    if holder then wake_worker(holder, 'canceled') end
    canceled = canceled + 1
  end
  for _, child in ipairs(call('LRANGE', P .. 'children:' .. id, 0, -1)) do cancel(child) end
  return true
end

if not cancel(ARGV[4]) then return -1 end
hint('janitor')
return canceled
