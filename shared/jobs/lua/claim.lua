-- Claims up to n jobs for a worker: owners in turn, each owner's jobs by priority and order. O(log n) for each job.
-- Raises each job's attempt: the fencing token. Parks the worker if there was nothing.
-- ARGV: now, worker, n, lease in ms, types...
-- Returns {next due in ms or -1, retiring 0/1, id, fields, id, fields, ...}
local worker, wanted, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local types = {unpack(ARGV, 5)}
for _, kind in ipairs(types) do call('ZREM', P .. 'idle:' .. kind, worker) end
if call('SISMEMBER', P .. 'retiring', worker) == 1 then return {-1, 1} end

-- Takes up to n ids from the queue of a type: one of each owner in turn, or many where there is one owner only.
local function take(kind, n)
  local ring = P .. 'queue:' .. kind
  local first = call('ZPOPMIN', ring)
  local owner = first[1]
  if not owner then return {} end
  local queue = ring .. ':' .. owner
  local alone = call('EXISTS', ring) == 0
  local ids = {}
  for i, value in ipairs(call('ZPOPMIN', queue, alone and n or 1)) do
    if i % 2 == 1 then ids[#ids + 1] = value end
  end
  if call('EXISTS', queue) == 1 then call('ZADD', ring, call('INCR', P .. 'turn'), owner) end
  return ids, true
end

local reply, held, leases, taken = {-1, 0}, {}, {}, {}
local stamp, deadline = STAMP, NOW + lease
local now_is = {status = 'started', updated_at = stamp, updated_by = worker}

-- Gives a job to the worker: writes its new state, and changes the fields that were read to what they are now.
local function give(id, kind)
  local key = job_key(id)
  local fields = redis.pcall('HGETALL', key)
  local at = {}
  for i = 1, #fields, 2 do at[fields[i]] = i + 1 end
  local attempt = tonumber(fields[at.attempt])
  if fields[at.status] ~= 'new' or not attempt or not at.owner then
    set_aside(id, kind)
    return
  end
  now_is.attempt = string.format('%d', attempt + 1)
  call('HSET', key, 'status', 'started', 'updated_at', stamp, 'updated_by', worker, 'attempt', now_is.attempt)
  for name, value in pairs(now_is) do
    if at[name] then fields[at[name]] = value end
  end
  leases[kind] = leases[kind] or {}
  push(leases[kind], deadline, id)
  held[#held + 1] = id
  wanted = wanted - 1
  push(reply, id, fields)
end

local more = {}
for _, kind in ipairs(types) do
  if call('EXISTS', P .. 'delayed:' .. kind) == 1 then promote(kind) end
  more[kind] = true
end
local found = true
while wanted > 0 and found do
  found = false
  for _, kind in ipairs(types) do
    if wanted > 0 and more[kind] then
      local ids, any = take(kind, wanted)
      taken[kind] = (taken[kind] or 0) + #ids
      for _, id in ipairs(ids) do give(id, kind) end
      more[kind] = any
      found = found or any
    end
  end
end
for kind, number in pairs(taken) do
  if number > 0 then call('DECRBY', P .. 'depth:' .. kind, number) end
end
for kind, pairs_of_kind in pairs(leases) do in_parts('ZADD', P .. 'leases:' .. kind, pairs_of_kind) end
in_parts('SADD', P .. 'held:' .. worker, held)

if wanted > 0 then
  for _, kind in ipairs(types) do
    call('ZADD', P .. 'idle:' .. kind, NOW, worker)
    local due = call('ZRANGE', P .. 'delayed:' .. kind, 0, 0, 'WITHSCORES')
    if due[2] then
      local left = math.max(0, tonumber(due[2]) - NOW)
      if reply[1] < 0 or left < reply[1] then reply[1] = left end
    end
  end
end
return reply
