-- Second half of forgetting: removes an ended job, its children and everything kept of them. The objects are gone by now.
-- ARGV: now, id, deleted objects...
-- Returns how many jobs were forgotten; 0 if it is not due any more (somebody kept it meanwhile) or has not ended.
local root, forgotten = ARGV[2], 0
local due = call('ZSCORE', P .. 'expiry', root)
if not due or tonumber(due) > NOW then return 0 end

local function forget(id)
  for _, child in ipairs(call('LRANGE', P .. 'children:' .. id, 0, -1)) do forget(child) end
  local key, kind = job_key(id), type_of(id)
  local f = fields_of(id, 'owner', 'batch', 'idempotency_key')
  if f[1] then
    call('ZREM', P .. 'owned:' .. f[1], id)
    if f[2] then call('ZREM', P .. 'batch:' .. f[2], id) end
    if f[3] then call('DEL', P .. 'idempotency:' .. f[1] .. ':' .. f[3]) end
    forgotten = forgotten + 1
  end
  call('DEL', key, P .. 'history:' .. id, P .. 'children:' .. id, P .. 'open:' .. id)
  call('ZREM', P .. 'dead:' .. kind, id)
end

forget(root)
call('ZREM', P .. 'expiry', root)
for i = 3, #ARGV do call('SREM', P .. 'doomed', ARGV[i]) end
return forgotten
