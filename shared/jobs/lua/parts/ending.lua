-- Part: how jobs end, and what becomes of failed attempts. Needs the part `queue`.

-- The last child's end puts the parent back in its queue to be gathered, in the same step.
local function child_finished(parent)
  local f = fields_of(parent, 'status', 'owner', 'priority', 'total_jobs')
  if f[1] ~= 'waiting' then return end
  local left = tonumber(call('GET', P .. 'open:' .. parent) or '0') - 1
  if left <= 0 then enqueue(parent, type_of(parent), f[2], tonumber(f[3]) or 0, true) end
  call('DECR', P .. 'open:' .. parent)
  local total = tonumber(f[4]) or 1
  call('HSET', job_key(parent), 'progress', tostring(floor(99 * (total - left) / total)), 'updated_at', stamp())
  if left > 0 then return end
  call('DEL', P .. 'open:' .. parent)
  move(parent, 'waiting', 'new', 'gather')
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

-- Adds to a list of pairs those facts that are not among the values read: facts are written once.
-- values: of all names of the facts, from the given place on.
local function add_fresh(pairs_now, facts, values, place_of_first)
  for i = 1, #facts, 2 do
    if not values[place_of_first + (i - 1) / 2] then add(pairs_now, facts[i], facts[i + 1]) end
  end
end

-- The names in a list of pairs from one place on, as JSON; nil if there are none. What an attempt found out is told
-- from what was given at submit by such a list, so that a job can be submitted again as it was.
local function names_from(pairs_now, first)
  local names = {}
  for i = first, #pairs_now, 2 do names[#names + 1] = pairs_now[i] end
  return #names > 0 and cjson.encode(names) or nil
end

-- Reads the fields of a job that are named, and after them those that the facts name.
local function read(id, names, facts)
  for i = 1, #facts, 2 do names[#names + 1] = facts[i] end
  return fields_of(id, unpack(names))
end

-- list: the field that keeps the names of those that were written now.
local function write_facts(id, facts, list)
  local missing = {}
  add_fresh(missing, facts, read(id, {}, facts), 1)
  local names = names_from(missing, 1)
  if names then call('HSET', job_key(id), list, names, unpack(missing)) end
end

-- What a whole job used is added up by owner and day (UTC), and so outlives the job; its parts are counted in it.
local USED = {gpu_seconds = true, cpu_seconds = true, bytes_in = true, bytes_out = true}
local function count_use(owner, facts)
  local key
  for i = 1, #facts, 2 do
    local number = USED[facts[i]] and tonumber(facts[i + 1])
    if number and number >= 0 and number < 1e15 then  -- else it is none that can be added up
      if not key then
        key = P .. 'usage:' .. string.sub(stamp(), 1, 10)
        call('HINCRBY', key, 'jobs:' .. owner, 1)
        call('EXPIRE', key, 34560000)
      end
      call('HINCRBYFLOAT', key, facts[i] .. ':' .. owner, string.format('%.6f', number))
    end
  end
end

-- Reads what ending a job needs.
local function read_for_end(id, facts)
  return read(id, {'status', 'attempt', 'updated_by', 'parent', 'retention', 'owner', 'finished_at', 'failures'}, facts)
end

-- Ends a job that left its queue and lease: writes the facts, sets when it is forgotten, tells its parent.
-- there: what `read_for_end` returned for these facts, if that was called.
local function finish(id, from, to, by, facts, progress, there)
  there = there or read_for_end(id, facts)
  check_transition(id, from, to)
  local fields = {'status', to, 'updated_at', stamp(), 'updated_by', by}
  if not there[7] then add(fields, 'finished_at', stamp()) end
  if not there[8] then add(fields, 'failures', '') end -- overridden by a fact of this name: the later pair counts
  local first_fact = #fields + 1
  add_fresh(fields, facts, there, 9)
  local names = to ~= 'done' and names_from(fields, first_fact) -- what is done is never submitted again
  if names then add(fields, 'found_by_end', names) end
  if progress then add(fields, 'progress', progress) end
  local parent, retention = there[4], there[5]
  if parent then child_finished(parent) end
  call('HSET', job_key(id), unpack(fields))
  if not parent then
    count_use(there[6] or 'anonymous', fields)
    local after = tonumber(expiry_after(id, retention))
    if after then call('ZADD', P .. 'expiry', NOW + after * 1000, id) end
  end
  hint('autoscaler')
end

-- Ends a job that keeps failing: it rests in dead: with a reason that names what became of each attempt.
local function bury(id, from, by, reason)
  local told = call('LRANGE', P .. 'history:' .. id, 0, -1)
  if #told > 0 then reason = reason .. ' What happened: ' .. table.concat(told, '; ') .. '.' end
  finish(id, from, 'failed', by, {'reason', reason})
  set_aside(id, type_of(id))
end

-- Ends a job whose record is damaged, so that nobody waits for it.
local function condemn(id, kind)
  local f = fields_of(id, 'status', 'parent')
  call('HSET', job_key(id), 'status', 'failed', 'reason', 'The record of this job was damaged.', 'finished_at', stamp(), 'failures', '')
  if f[2] and not FINAL[f[1] or ''] then child_finished(f[2]) end
  set_aside(id, kind)
end

-- After a loss of the worker that holds it: back to the front of the queue, or buried once the losses are used up.
-- delay: ms until it may be claimed again. Returns 'requeued' or 'buried'; 'aside' for a damaged record.
local function lose(id, from, worker, by, text, delay)
  local kind, history = type_of(id), P .. 'history:' .. id
  local f = fields_of(id, 'max_attempts', 'owner', 'priority', 'attempt', 'losses')
  local losses = string.match(f[5] or '0', '^%d+$')
  if not losses then
    leave_lease(id, kind, worker)
    condemn(id, kind)
    return 'aside'
  end
  losses = tonumber(losses) + 1
  local told = 'attempt ' .. (f[4] or '?') .. ' ' .. text
  if losses >= (tonumber(f[1]) or 3) then
    leave_lease(id, kind, worker)
    call('HSET', job_key(id), 'losses', losses)
    call('RPUSH', history, told)
    bury(id, from, by, 'The job was given up after ' .. losses .. (losses == 1 and ' failed attempt.' or ' failed attempts.'))
    return 'buried'
  end
  if delay > 0 then
    call('ZADD', P .. 'delayed:' .. kind, NOW + delay, id)
    count_in(kind, 1)
    hint('janitor')
  else
    enqueue(id, kind, f[2] or 'anonymous', tonumber(f[3]) or 0, true)
  end
  leave_lease(id, kind, worker)
  move(id, from, 'new', by, 'losses', losses)
  call('RPUSH', history, told)
  return 'requeued'
end
