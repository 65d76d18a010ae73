-- Submits jobs: writes each hash and puts its id in the queue, all of them or none in one step.
-- ARGV: now, count of jobs, then for each job:
--   id, owner, priority, max_attempts, retention, idempotency key, batch, parent, n uses, uses..., n facts, fact pairs...
-- Returns for each job: id, 1 if created now or 0 if its key was known. Error GONE if an object is being deleted.
local reply, at, owned, stamp, ms = {}, 3, {}, STAMP, string.format('%d', NOW)

local function known_as(id, owner, key)
  return (key ~= '' and call('GET', P .. 'idempotency:' .. owner .. ':' .. key)) or (call('EXISTS', job_key(id)) == 1 and id)
end

-- First look, then write: a file that is being deleted refuses them all.
local look = at
for _ = 1, tonumber(ARGV[2]) do
  local first_use = look + 8
  local n_uses = tonumber(ARGV[look + 7])
  for i = first_use, first_use + n_uses - 1 do
    if call('SISMEMBER', P .. 'doomed', object_of(ARGV[i])) == 1 and not known_as(ARGV[look], ARGV[look + 1], ARGV[look + 5]) then
      return redis.error_reply('GONE ' .. ARGV[i])
    end
  end
  look = first_use + n_uses + 1 + 2 * tonumber(ARGV[first_use + n_uses])
end

for _ = 1, tonumber(ARGV[2]) do
  local id, owner, priority, most, retention, key, batch = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4],
    ARGV[at + 5], ARGV[at + 6]
  local n_uses = tonumber(ARGV[at + 7])
  local first_use = at + 8
  local n_facts = tonumber(ARGV[first_use + n_uses])
  local first_fact = first_use + n_uses + 1
  at = first_fact + 2 * n_facts
  local idempotency = key ~= '' and (P .. 'idempotency:' .. owner .. ':' .. key)
  local known = known_as(id, owner, key)
  if known then
    reply[#reply + 1] = known
    reply[#reply + 1] = 0
  else
    local kind = type_of(id)
    local fields = {'type', kind, 'owner', owner, 'priority', priority, 'max_attempts', most, 'created_at', stamp,
      'created_ms', ms, 'updated_at', stamp, 'updated_by', 'submit', 'status', 'new', 'progress', '0', 'attempt', '0', 'losses', '0'}
    if retention ~= '' then
      fields[#fields + 1] = 'retention'
      fields[#fields + 1] = retention
    end
    if idempotency then
      call('SET', idempotency, id)
      fields[#fields + 1] = 'idempotency_key'
      fields[#fields + 1] = key
    end
    if batch ~= '' then
      call('ZADD', P .. 'batch:' .. batch, NOW, id)
      fields[#fields + 1] = 'batch'
      fields[#fields + 1] = batch
    end
    local uses = {}
    for i = first_use, first_use + n_uses - 1 do
      local object = object_of(ARGV[i])
      call('SADD', P .. 'uses:' .. ARGV[i], id)
      uses[#uses + 1] = ARGV[i]
      if object ~= ARGV[i] then push(fields, 'stored_as', object) end
    end
    if #uses > 0 then
      fields[#fields + 1] = 'uses'
      fields[#fields + 1] = cjson.encode(uses)
    end
    for i = first_fact, at - 1 do fields[#fields + 1] = ARGV[i] end
    call('HSET', job_key(id), unpack(fields))
    owned[owner] = owned[owner] or {}
    push(owned[owner], NOW, id)
    gather(id, kind, owner, tonumber(priority))
    reply[#reply + 1] = id
    reply[#reply + 1] = 1
  end
end
for owner, entries in pairs(owned) do in_parts('ZADD', P .. 'owned:' .. owner, entries) end
enqueue_gathered()
return reply
