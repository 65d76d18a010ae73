-- Claims up to n jobs for a worker: owners in turn, each owner's jobs by priority and order. O(log n) for each job.
-- Raises each job's attempt: the fencing token. Parks the worker if it has room for more; else what is left wakes another.
-- ARGV: now, worker, n, lease in ms, types...
-- Returns {next due in ms or -1, retiring 0/1, id, fields, id, fields, ...}
-- With: queue
local worker, wanted, deadline = ARGV[2], tonumber(ARGV[3]), NOW + tonumber(ARGV[4])
local types = {unpack(ARGV, 5)}
for _, kind in ipairs(types) do call('ZREM', P .. 'idle:' .. kind, worker) end
if call('SISMEMBER', P .. 'retiring', worker) == 1 then
  for _, kind in ipairs(types) do pass_on(kind) end
  return {-1, 1}
end

-- Takes ids with their scores from the queue of a type: one of the owner whose turn it is, or up to n where there is
-- one owner only. Also returns whether there may be more.
local function take(kind, n)
  local ring = P .. 'queue:' .. kind
  local owners = call('ZRANGE', ring, 0, 1)
  local owner, alone = owners[1], not owners[2]
  if not owner then return {}, false end
  local queue = ring .. ':' .. owner
  local ids = call('ZPOPMIN', queue, alone and n or 1)
  if (alone and #ids < 2 * n) or call('EXISTS', queue) == 0 then
    call('ZREM', ring, owner)
    return ids, not alone
  end
  if not alone then call('ZADD', ring, call('INCR', P .. 'turn'), owner) end
  return ids, true
end

local reply, held, leases, more, soonest = {-1, 0}, {}, {}, {}, {}

-- Gives a job to the worker and adds it to the reply.
local function give(id, kind)
  local key = job_key(id)
  local f = fields_of(id, 'status', 'attempt', 'owner')
  local attempt = f[1] == 'new' and f[3] and tonumber(f[2])
  if not attempt then
    set_aside(id, kind)
    return
  end
  call('HSET', key, 'status', 'started', 'updated_at', stamp(), 'updated_by', worker, 'attempt', attempt + 1)
  add(leases[kind], deadline, id)
  held[#held + 1] = id
  add(reply, id, call('HGETALL', key))
  wanted = wanted - 1
end

-- The time at which the next delayed job of a type is due, or nil.
local function next_due(kind) return tonumber(call('ZRANGE', P .. 'delayed:' .. kind, 0, 0, 'WITHSCORES')[2]) end

for _, kind in ipairs(types) do
  leases[kind], more[kind], soonest[kind] = {}, true, next_due(kind)
  if (soonest[kind] or NOW + 1) <= NOW then
    promote(kind)
    soonest[kind] = next_due(kind)
  end
end
local found = true
while wanted > 0 and found do
  found = false
  for _, kind in ipairs(types) do
    if wanted > 0 and more[kind] then
      local ids
      ids, more[kind] = take(kind, wanted)
      for i = 1, #ids, 2 do give(ids[i], kind) end
      if #ids > 0 then call('DECRBY', P .. 'depth:' .. kind, #ids / 2) end
      found = found or more[kind]
    end
  end
end
for kind, entries in pairs(leases) do in_parts('ZADD', P .. 'leases:' .. kind, entries) end
in_parts('SADD', P .. 'held:' .. worker, held)

if wanted > 0 then
  for _, kind in ipairs(types) do
    call('ZADD', P .. 'idle:' .. kind, NOW, worker)
    if soonest[kind] then
      local left = math.max(0, soonest[kind] - NOW)
      if reply[1] < 0 or left < reply[1] then reply[1] = left end
    end
  end
else
  for _, kind in ipairs(types) do pass_on(kind) end
end
return reply
