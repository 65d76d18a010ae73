-- First half of forgetting a job: gives up its claim on the objects that it read, and marks those that no other job
-- names as doomed, so that no new job can name them while they are being deleted. May be run again after a crash.
-- ARGV: now, id
-- Returns the objects to delete.
local id, orphaned = ARGV[2], {}
local uses = call('HGET', job_key(id), 'uses')
for _, object in ipairs(uses and cjson.decode(uses) or {}) do
  local key = P .. 'uses:' .. object
  call('SREM', key, id)
  if call('EXISTS', key) == 0 then
    call('SADD', P .. 'doomed', object)
    orphaned[#orphaned + 1] = object
  end
end
return orphaned
