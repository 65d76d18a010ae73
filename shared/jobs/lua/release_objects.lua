-- First half of forgetting a job: begins it, so that nobody can keep the job any more, gives up the job's claim on the
-- files that it read, and marks the objects that no other job and no other upload names as doomed, so that no new job can
-- name them while they are being deleted. May be run again after a crash: what was begun comes first in the list of what is due.
-- ARGV: now, id
-- Returns {1, objects to delete...}; {0} if the job is not due: somebody kept it meanwhile.
-- With: uploads
local id, reply = ARGV[2], {1}
local due = call('ZSCORE', P .. 'expiry', id)
if not due or tonumber(due) > NOW then return {0} end
call('ZADD', P .. 'expiry', 0, id)
local f = fields_of(id, 'uses', 'stored_as')
local sound, uses = pcall(cjson.decode, f[1] or '[]')
for _, name in ipairs(sound and type(uses) == 'table' and uses or {}) do
  local object
  if type(name) == 'string' then
    local key = P .. 'uses:' .. name
    call('SREM', key, id)
    object = call('EXISTS', key) == 0 and give_up(name, f[2] or nil)
  end
  if object then
    call('SADD', P .. 'doomed', object)
    reply[#reply + 1] = object
  end
end
return reply
