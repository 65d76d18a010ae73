-- Part: queues, the workers that wait for them, and what is moved aside.

-- A worker that died while parked has no subscriber left: it costs its turn and nothing more.
local function wake_worker(worker, why)
  local key = P .. 'wake:' .. worker
  if call('PUBSUB', 'NUMSUB', '__keyspace@@DB@__:' .. key)[2] == 0 then return false end
  call('SET', key, why, 'PX', 1000)
  return true
end

-- Wakes up to n parked workers of a job type, the latest parked first, so that long idle ones stay idle and may go.
local function wake(kind, n)
  while n > 0 do
    local parked = call('ZPOPMAX', P .. 'idle:' .. kind)
    if #parked == 0 then return end
    if wake_worker(parked[1], 'work') then n = n - 1 end
  end
end

-- One that was woken and can take no more wakes another, if work waits: a wake-up ends only with an empty queue.
local function pass_on(kind)
  if call('EXISTS', P .. 'queue:' .. kind) == 1 then wake(kind, 1) end
end

-- Order within an owner's queue: priority first, then the running number; at the front: a negative number.
-- 2^45 numbers and 201 priorities fit in the 53 bits of a score.
local function place(priority, order) return -priority * 35184372088832 + order end

local function put_in_queue(id, kind, owner, priority, front)
  local ring = P .. 'queue:' .. kind
  local order = call('INCR', P .. 'sequence')
  call('ZADD', ring .. ':' .. owner, place(priority, front and -order or order), id)
  call('ZADD', ring, 'NX', call('INCR', P .. 'turn'), owner)
end

-- Counts waiting jobs; the first of a type makes the type known to the janitor and the auditor.
local function count_in(kind, n)
  if call('INCRBY', P .. 'depth:' .. kind, n) <= n then call('SADD', P .. 'kinds', kind) end
end

-- Puts a job in its queue, counts it, and wakes one worker. Called before anything else is written of the job: where
-- its queue is of a wrong kind, Redis ends the script there, and the job is still what it was, and tried again.
local function enqueue(id, kind, owner, priority, front)
  put_in_queue(id, kind, owner, priority, front)
  count_in(kind, 1)
  wake(kind, 1)
  hint('autoscaler')
end

local gathered, gathered_number = {}, 0

-- Puts many fresh jobs in their queues: `gather` each, then `enqueue_gathered` once.
local function gather(id, kind, owner, priority)
  local name = kind .. ':' .. owner
  local queue = gathered[name]
  if not queue then
    queue = {kind = kind, owner = owner}
    gathered[name] = queue
    gathered[#gathered + 1] = name
  end
  add(queue, place(priority, gathered_number), id)
  gathered_number = gathered_number + 1
end

local function enqueue_gathered()
  if gathered_number == 0 then return end
  local first = call('INCRBY', P .. 'sequence', gathered_number) - gathered_number + 1
  for _, name in ipairs(gathered) do
    local queue = gathered[name]
    for i = 1, #queue, 2 do queue[i] = queue[i] + first end
    in_parts('ZADD', P .. 'queue:' .. name, queue)
    call('ZADD', P .. 'queue:' .. queue.kind, 'NX', call('INCR', P .. 'turn'), queue.owner)
    count_in(queue.kind, #queue / 2)
    wake(queue.kind, #queue / 2)
  end
  hint('autoscaler')
end

-- Moves delayed jobs that are due into their queue; they are counted already.
local function promote(kind)
  local due = call('ZRANGEBYSCORE', P .. 'delayed:' .. kind, '-inf', NOW, 'LIMIT', 0, 100)
  for _, id in ipairs(due) do
    local f = fields_of(id, 'owner', 'priority')
    put_in_queue(id, kind, f[1] or 'anonymous', tonumber(f[2]) or 0, false)
    call('ZREM', P .. 'delayed:' .. kind, id)
  end
  return #due
end

local function leave_queue(id, kind, owner)
  local ring = P .. 'queue:' .. kind
  local removed = call('ZREM', ring .. ':' .. owner, id) + call('ZREM', P .. 'delayed:' .. kind, id)
  if removed > 0 then call('DECRBY', P .. 'depth:' .. kind, removed) end
  if call('EXISTS', ring .. ':' .. owner) == 0 then call('ZREM', ring, owner) end
end

-- A queue entry or lease that is no sound job is moved aside; it never stops a queue.
local function set_aside(id, kind)
  call('ZADD', P .. 'dead:' .. kind, NOW, id)
  hint('janitor')
end
