-- Submits jobs: writes each hash and puts its id in the queue, all of them or none in one step.
-- ARGV: now, count of jobs, then for each job:
--   id, owner, priority, max_attempts, retention, idempotency key, batch, n uses, uses..., n facts, fact pairs...
-- Returns for each job: id, 1 if created now or 0 if its key was known. Error GONE if an object is being deleted.
-- With: queue, uploads
local reply, owned, object = {}, {}, {}
-- What makes a job known is written last: where a key is of a wrong kind, Redis ends the script there, and a submission
-- that comes again must not pass for one that was accepted.
local hashes, named = {}, {}

local function name_of(owner, key) return P .. 'idempotency:' .. owner .. ':' .. key end

local function known_as(id, owner, key)
  local name = key ~= '' and name_of(owner, key)
  local of = name and (named[name] or call('GET', name))
  if of and (named[name] or call('EXISTS', job_key(of)) == 1) then return of end
  return (hashes[id] or call('EXISTS', job_key(id)) == 1) and id
end

-- First look, then write: a file that is being deleted refuses them all.
local look = 3
for _ = 1, tonumber(ARGV[2]) do
  local first_use = look + 8
  local n_uses = tonumber(ARGV[look + 7])
  for i = first_use, first_use + n_uses - 1 do
    object[ARGV[i]] = object_of(ARGV[i])
    if call('SISMEMBER', P .. 'doomed', object[ARGV[i]]) == 1 and not known_as(ARGV[look], ARGV[look + 1], ARGV[look + 5]) then
      return redis.error_reply('GONE ' .. ARGV[i])
    end
  end
  look = first_use + n_uses + 1 + 2 * tonumber(ARGV[first_use + n_uses])
end

-- Writes one job, whose arguments begin at a place; returns the place after them.
local function submit(at)
  local id, owner, retention, key, batch = ARGV[at], ARGV[at + 1], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local first_use = at + 8
  local after_uses = first_use + tonumber(ARGV[at + 7])
  local after = after_uses + 1 + 2 * tonumber(ARGV[after_uses])
  local known = known_as(id, owner, key)
  if known then
    add(reply, known, 0)
    return after
  end
  local kind = type_of(id)
  local fields = {'type', kind, 'owner', owner, 'priority', ARGV[at + 2], 'max_attempts', ARGV[at + 3], 'created_at', stamp(),
    'created_ms', NOW, 'updated_at', stamp(), 'updated_by', 'submit', 'status', 'new', 'progress', '0', 'attempt', '0',
    'losses', '0', unpack(ARGV, after_uses + 1, after - 1)}
  if retention ~= '' then add(fields, 'retention', retention) end
  if key ~= '' then
    named[name_of(owner, key)] = id
    add(fields, 'idempotency_key', key)
  end
  if batch ~= '' then
    call('ZADD', P .. 'batch:' .. batch, NOW, id)
    add(fields, 'batch', batch)
  end
  if after_uses > first_use then
    for i = first_use, after_uses - 1 do
      call('SADD', P .. 'uses:' .. ARGV[i], id)
      if object[ARGV[i]] ~= ARGV[i] then add(fields, 'stored_as', object[ARGV[i]]) end
    end
    add(fields, 'uses', cjson.encode({unpack(ARGV, first_use, after_uses - 1)}))
  end
  hashes[id] = fields
  owned[owner] = owned[owner] or {}
  add(owned[owner], NOW, id)
  gather(id, kind, owner, tonumber(ARGV[at + 2]))
  add(reply, id, 1)
  return after
end

local at = 3
for _ = 1, tonumber(ARGV[2]) do at = submit(at) end
for owner, entries in pairs(owned) do in_parts('ZADD', P .. 'owned:' .. owner, entries) end
enqueue_gathered()
for name, id in pairs(named) do call('SET', name, id) end
for id, fields in pairs(hashes) do call('HSET', job_key(id), unpack(fields)) end
return reply
