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
  if #ids > 0 then call('DECRBY', P .. 'depth:' .. kind, #ids) end
  return ids, true
end

local reply = {-1, 0}
local stamp = iso(NOW)

local function give(id, kind)
  local key = job_key(id)
  local status = redis.pcall('HGET', key, 'status')
  if type(status) == 'table' or status ~= 'new' then
    set_aside(id, kind)
    return
  end
  local attempt = call('HINCRBY', key, 'attempt', 1)
  call('HSET', key, 'status', 'started', 'updated_at', stamp, 'updated_by', worker)
  call('ZADD', P .. 'leases:' .. kind, NOW + lease, id)
  call('SADD', P .. 'held:' .. worker, id)
  wanted = wanted - 1
  reply[#reply + 1] = id
  reply[#reply + 1] = call('HGETALL', key)
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
      for _, id in ipairs(ids) do give(id, kind) end
      more[kind] = any
      found = found or any
    end
  end
end

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
