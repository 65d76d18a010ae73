-- Submits a failed or canceled job again as a new one that names the old, and takes the old out of dead:.
-- ARGV: now, old id, new id
-- Returns the new id; '' if the old one does not exist, has not failed, is a part of another, or is being forgotten.
-- With: queue, uploads
local old, id = ARGV[2], ARGV[3]
local already = fields_of(id, 'status', 'revived_from')  -- a call that is sent again, its first answer was lost
if already[1] then return already[2] == old and id or '' end
local all = call('HGETALL', job_key(old))
local f, fields = {}, {}
for i = 1, #all, 2 do f[all[i]] = all[i + 1] end
if not (f.status == 'failed' or f.status == 'canceled') or f.parent or call('ZSCORE', P .. 'expiry', old) == '0' then return '' end
-- What the scripts write themselves, and what attempts found out, whatever the job type calls it; all else was given.
local own = {status = true, updated_at = true, updated_by = true, progress = true, attempt = true, losses = true,
  created_at = true, created_ms = true, finished_at = true, failures = true, idempotency_key = true, revived_from = true,
  stored_as = true, found_by_split = true, found_by_end = true}
for _, list in ipairs({f.found_by_split or '[]', f.found_by_end or '[]'}) do
  for _, name in ipairs(cjson.decode(list)) do own[name] = true end
end
for name, value in pairs(f) do
  if not own[name] then add(fields, name, value) end
end
call('HSET', job_key(id), 'status', 'new', 'created_at', stamp(), 'created_ms', NOW, 'updated_at', stamp(), 'updated_by', 'revive', 'progress', '0',
  'attempt', '0', 'losses', '0', 'revived_from', old, unpack(fields))
for _, name in ipairs(f.uses and cjson.decode(f.uses) or {}) do
  call('SADD', P .. 'uses:' .. name, id)
  local object = object_of(name)  -- another one now, perhaps, than when the old job was submitted
  if object ~= name then call('HSET', job_key(id), 'stored_as', object) end
end
call('ZADD', P .. 'owned:' .. f.owner, NOW, id)
if f.batch then call('ZADD', P .. 'batch:' .. f.batch, NOW, id) end
call('ZREM', P .. 'dead:' .. type_of(old), old)
enqueue(id, type_of(id), f.owner, tonumber(f.priority) or 0, false)
return id
