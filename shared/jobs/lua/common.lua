-- Common part, put before every script. It is given as text, filled in by the store:
--   @TRANSITIONS@  the table of shared/jobs/states.py        @DB@  the number of the database, for event channels
-- KEYS[1] is the deployment's prefix: it is no key itself but carries the hash tag of all of them (see keys.py).
-- ARGV[1] is the time in ms since 1970, given by tests; empty means the server's own clock.
local P = KEYS[1]
local NOW = tonumber(ARGV[1])
if not NOW then
  local t = redis.call('TIME')
  NOW = t[1] * 1000 + math.floor(t[2] / 1000)
end
local ALLOWED = @TRANSITIONS@
local WORKING = {started = true, ['pre-processing'] = true, predicting = true, ['post-processing'] = true, ['saving-results'] = true}
local FINAL = {done = true, failed = true, canceled = true}
local call = redis.call

-- ISO 8601 in UTC. Days to a civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2013).
local function iso(ms)
  local s = math.floor(ms / 1000)
  local z = math.floor(s / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(s / 3600) % 24, math.floor(s / 60) % 60, s % 60, ms % 1000)
end

local STAMP = iso(NOW)

local function job_key(id) return P .. 'job:' .. id end

local function type_of(id) return string.match(id, '^([^:]+):') or 'unknown' end

local function push(list, ...)
  for _, value in ipairs({...}) do list[#list + 1] = value end
end

-- Calls a command with any number of values: Lua can unpack some thousands at once.
local function in_parts(command, key, values)
  for first = 1, #values, 1000 do call(command, key, unpack(values, first, math.min(first + 999, #values))) end
end

-- One event for a burst: the reader acts at once, waits as long as the hint lives, and reads once more.
local hinted = {}
local function hint(who)
  if not hinted[who] then call('SET', P .. 'hint:' .. who, '1', 'NX', 'PX', 50) end
  hinted[who] = true
end

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

-- Puts a job in its queue, counts it, and wakes one worker.
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
  if not gathered[name] then
    gathered[name] = {kind = kind, owner = owner}
    push(gathered, name)
  end
  push(gathered[name], id, priority, gathered_number)
  gathered_number = gathered_number + 1
end

local function enqueue_gathered()
  if gathered_number == 0 then return end
  local first = call('INCRBY', P .. 'sequence', gathered_number) - gathered_number + 1
  for _, name in ipairs(gathered) do
    local jobs, entries = gathered[name], {}
    for i = 1, #jobs, 3 do push(entries, place(jobs[i + 1], first + jobs[i + 2]), jobs[i]) end
    in_parts('ZADD', P .. 'queue:' .. name, entries)
    call('ZADD', P .. 'queue:' .. jobs.kind, 'NX', call('INCR', P .. 'turn'), jobs.owner)
    count_in(jobs.kind, #jobs / 3)
    wake(jobs.kind, #jobs / 3)
  end
  hint('autoscaler')
end

-- Moves delayed jobs that are due into their queue; they are counted already.
local function promote(kind)
  local due = call('ZRANGEBYSCORE', P .. 'delayed:' .. kind, '-inf', NOW, 'LIMIT', 0, 100)
  for _, id in ipairs(due) do
    call('ZREM', P .. 'delayed:' .. kind, id)
    local f = call('HMGET', job_key(id), 'owner', 'priority')
    put_in_queue(id, kind, f[1] or 'anonymous', tonumber(f[2]) or 0, false)
  end
  return #due
end

local function leave_queue(id, kind, owner)
  local ring = P .. 'queue:' .. kind
  local removed = call('ZREM', ring .. ':' .. owner, id) + call('ZREM', P .. 'delayed:' .. kind, id)
  if removed > 0 then call('DECRBY', P .. 'depth:' .. kind, removed) end
  if call('EXISTS', ring .. ':' .. owner) == 0 then call('ZREM', ring, owner) end
end

local function leave_lease(id, kind, worker)
  call('ZREM', P .. 'leases:' .. kind, id)
  if worker then call('SREM', P .. 'held:' .. worker, id) end
end

-- The one place where a state changes. Extra pairs are moving fields.
local function move(id, from, to, by, ...)
  if not (ALLOWED[from] and ALLOWED[from][to]) then
    error({err = 'TRANSITION ' .. id .. ' from ' .. tostring(from) .. ' to ' .. to})
  end
  call('HSET', job_key(id), 'status', to, 'updated_at', STAMP, 'updated_by', by, ...)
end

-- Facts are written once: what is there already stays. Returns the pairs that are not there yet, given the names of
-- all and what is there of them, from the given place on.
local function fresh(facts, there, from)
  local missing, seen = {}, {}
  for i = 1, #facts, 2 do
    local name = facts[i]
    if not there[from + (i - 1) / 2] and not seen[name] then
      missing[#missing + 1] = name
      missing[#missing + 1] = facts[i + 1]
    end
    seen[name] = true
  end
  return missing
end

-- Reads some fields of a job, and those of some facts after them.
local function read(id, fields, facts)
  local names = {unpack(fields)}
  for i = 1, #facts, 2 do names[#names + 1] = facts[i] end
  return call('HMGET', job_key(id), unpack(names))
end

local function write_facts(id, facts)
  if #facts == 0 then return end
  local missing = fresh(facts, read(id, {}, facts), 1)
  if #missing > 0 then call('HSET', job_key(id), unpack(missing)) end
end

-- Uploads: equal files of one owner share one object, each under a name of its own (see content: in keys.py).
local function content_of(name)
  local content = name and call('HGET', P .. 'upload:' .. name, 'content')
  return content and P .. 'content:' .. content
end

local function object_of(name)
  local content = content_of(name)
  return content and call('HGET', content, 'object') or name
end

-- Forgets what was uploaded: the object's last name is gone, or nobody came for it.
local function forget_content(content, object) call('DEL', content, P .. 'upload:' .. object) end

-- Takes a name off; what is known of the object itself stays with it.
local function take_name_off(content, object, name)
  call('HDEL', content, name)
  if name ~= object then call('DEL', P .. 'upload:' .. name) end
end

-- Gives up a name that no job uses any more; returns its object if that has no other name and no job.
-- stored_as: the object, for a name that was given up before (a crash came between).
local function give_up(name, stored_as)
  local content, object = content_of(name) or content_of(stored_as), stored_as or name
  if content then
    object = call('HGET', content, 'object') or object
    take_name_off(content, object, name)
    if call('HLEN', content) > 1 then return nil end
  end
  if call('EXISTS', P .. 'uses:' .. object) == 1 then return nil end
  if content then forget_content(content, object) end
  return object
end

local function note(id, text) call('RPUSH', P .. 'history:' .. id, text) end

-- A worker with an old token holds the job no more, unless it was given the same job again under a new one.
local function not_held(worker, id, status, holder)
  if not (WORKING[status or ''] and holder == worker) then call('SREM', P .. 'held:' .. worker, id) end
end

-- True if the caller's fencing token is still the current one and the job is being worked on.
local function owns(status, current, attempt) return WORKING[status or ''] and current == attempt end

local finish

-- The last child's end puts the parent back in its queue to be gathered, in the same step.
local function child_finished(parent)
  local f = call('HMGET', job_key(parent), 'status', 'owner', 'priority', 'total_jobs')
  if f[1] ~= 'waiting' then return end
  local left = call('DECR', P .. 'open:' .. parent)
  local total = tonumber(f[4]) or 1
  call('HSET', job_key(parent), 'progress', tostring(math.floor(99 * (total - left) / total)), 'updated_at', STAMP)
  if left > 0 then return end
  call('DEL', P .. 'open:' .. parent)
  move(parent, 'waiting', 'new', 'gather')
  enqueue(parent, type_of(parent), f[2], tonumber(f[3]) or 0, true)
end

local postponed = nil

-- When an ended job is forgotten: as somebody said meanwhile, else as its submitter said. Empty keeps it.
local function expiry_after(id, retention)
  if postponed == nil then postponed = call('EXISTS', P .. 'expire_after') == 1 end
  local after = postponed and call('HGET', P .. 'expire_after', id)
  if not after then return retention end
  call('HDEL', P .. 'expire_after', id)
  return after
end

local ENDING = {'status', 'attempt', 'updated_by', 'parent', 'retention', 'owner'}

-- What a whole job used is added up by owner and day (UTC), and so outlives the job; its parts are counted in it.
local USED = {gpu_seconds = true, cpu_seconds = true, bytes_in = true, bytes_out = true}
local function count_use(owner, facts)
  local key
  for i = 1, #facts, 2 do
    local number = USED[facts[i]] and tonumber(facts[i + 1])
    if number then
      if not key then
        key = P .. 'usage:' .. string.sub(STAMP, 1, 10)
        call('HINCRBY', key, 'jobs:' .. owner, 1)
        call('EXPIRE', key, 34560000)
      end
      call('HINCRBYFLOAT', key, facts[i] .. ':' .. owner, string.format('%.6f', number))
    end
  end
end

-- Reads what ending a job needs, and adds the facts that every end has.
local function read_for_end(id, facts)
  push(facts, 'finished_at', STAMP, 'failures', '')
  return read(id, ENDING, facts)
end

-- Ends a job that left its queue and lease: writes the facts, sets when it is forgotten, tells its parent.
-- there: what `read_for_end` returned for these facts, if that was called.
finish = function(id, from, to, by, facts, progress, there)
  there = there or read_for_end(id, facts)
  local missing = fresh(facts, there, #ENDING + 1)
  if progress then push(missing, 'progress', progress) end
  move(id, from, to, by, unpack(missing))
  local parent, retention = there[4], there[5]
  if parent then
    child_finished(parent)
  else
    count_use(there[6] or 'anonymous', missing)
    local after = expiry_after(id, retention)
    if tonumber(after) then call('ZADD', P .. 'expiry', NOW + tonumber(after) * 1000, id) end
  end
  hint('autoscaler')
end

-- Ends a job that keeps failing: it rests in dead: with a reason that names what became of each attempt.
local function bury(id, from, by, reason)
  local told = call('LRANGE', P .. 'history:' .. id, 0, -1)
  if #told > 0 then reason = reason .. ' What happened: ' .. table.concat(told, '; ') .. '.' end
  finish(id, from, 'failed', by, {'reason', reason})
  call('ZADD', P .. 'dead:' .. type_of(id), NOW, id)
  hint('janitor')
end

-- A queue entry or lease that is no sound job is moved aside; it never stops a queue.
local function set_aside(id, kind)
  call('ZADD', P .. 'dead:' .. kind, NOW, id)
  hint('janitor')
end

-- After a loss: back to the front of the queue, or buried once the losses are used up.
-- delay: ms until it may be claimed again. Returns 'requeued' or 'buried'.
local function lose(id, from, by, text, delay)
  local key, kind = job_key(id), type_of(id)
  local losses = redis.pcall('HINCRBY', key, 'losses', 1)
  if type(losses) == 'table' then
    call('HSET', key, 'status', 'failed', 'reason', 'The record of this job was damaged.')
    set_aside(id, kind)
    return 'aside'
  end
  local f = call('HMGET', key, 'max_attempts', 'owner', 'priority', 'attempt')
  note(id, 'attempt ' .. (f[4] or '?') .. ' ' .. text)
  local most = tonumber(f[1]) or 3
  if losses >= most then
    bury(id, from, by, 'The job was given up after ' .. losses .. (losses == 1 and ' failed attempt.' or ' failed attempts.'))
    return 'buried'
  end
  move(id, from, 'new', by)
  if delay > 0 then
    call('ZADD', P .. 'delayed:' .. kind, NOW + delay, id)
    count_in(kind, 1)
    hint('janitor')
  else
    enqueue(id, kind, f[2] or 'anonymous', tonumber(f[3]) or 0, true)
  end
  return 'requeued'
end
