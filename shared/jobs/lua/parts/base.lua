-- The part that stands before every script: time, names, states. The store fills in, as text:
--   @TRANSITIONS@  the table of shared/jobs/states.py        @DB@  the number of the database, for event channels
-- KEYS[1] is the deployment's prefix: it is no key itself but carries the hash tag of all of them (see keys.py).
-- KEYS[2] is no key either: see scripts.py.
-- ARGV[1] is the time in ms since 1970, given by tests; empty means the server's own clock.
--
-- All of this text runs anew at each call, so it is short; what only some scripts need is in parts of its own, which
-- a script names in its line "-- With:".
local P, call, floor = KEYS[1], redis.call, math.floor
local NOW = tonumber(ARGV[1])
if not NOW then
  local t = call('TIME')
  NOW = t[1] * 1000 + floor(t[2] / 1000)
end
local FOLLOWING = @TRANSITIONS@
local WORKING = {started = true, ['pre-processing'] = true, predicting = true, ['post-processing'] = true, ['saving-results'] = true}
local FINAL = {done = true, failed = true, canceled = true}

-- ISO 8601 in UTC. Days to a civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2013).
local function iso(ms)
  local s = floor(ms / 1000)
  local z = floor(s / 86400) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, doy - floor((153 * mp + 2) / 5) + 1,
    floor(s / 3600) % 24, floor(s / 60) % 60, s % 60, ms % 1000)
end

local stamped

-- The time of this call as it is written into jobs; most calls that find nothing to do need none.
local function stamp()
  stamped = stamped or iso(NOW)
  return stamped
end

local function job_key(id) return P .. 'job:' .. id end

-- The values of some fields of a job; none where its key is no hash: then nobody owns it, and it has no state.
local function fields_of(id, ...)
  local values = redis.pcall('HMGET', job_key(id), ...)
  return values.err and {} or values
end

local function type_of(id) return string.match(id, '^([^:]+):') or 'unknown' end

-- Adds two values to a list.
local function add(list, first, second)
  local n = #list
  list[n + 1] = first
  list[n + 2] = second
end

-- Calls a command with any number of values: Lua can unpack some thousands at once.
local function in_parts(command, key, values)
  for first = 1, #values, 1000 do call(command, key, unpack(values, first, math.min(first + 999, #values))) end
end

local hinted = {}

-- One event for a burst: the reader acts at once, waits as long as the hint lives, and reads once more.
local function hint(who)
  if not hinted[who] then call('SET', P .. 'hint:' .. who, '1', 'NX', 'PX', 50) end
  hinted[who] = true
end

-- True if a worker holds the job, under the fencing token that it shows.
-- f: the job's status, attempt and updated_by, which names the holder of one that is being worked on.
local function owns(f, attempt, worker) return WORKING[f[1] or ''] and f[2] == attempt and f[3] == worker end

-- A worker with an old token holds the job no more, unless it was given the same job again under a new one.
local function not_held(worker, id, status, holder)
  if not (WORKING[status or ''] and holder == worker) then call('SREM', P .. 'held:' .. worker, id) end
end

local function leave_lease(id, kind, worker)
  call('ZREM', P .. 'leases:' .. kind, id)
  if worker then call('SREM', P .. 'held:' .. worker, id) end
end

-- Refuses a change of state that the table does not know.
local function check_transition(id, from, to)
  if not string.find(FOLLOWING[from] or '', ' ' .. to .. ' ', 1, true) then
    error({err = 'TRANSITION ' .. id .. ' from ' .. tostring(from) .. ' to ' .. to})
  end
end

-- Changes the state of a job that does not end by it. Extra pairs are moving fields.
local function move(id, from, to, by, ...)
  check_transition(id, from, to)
  call('HSET', job_key(id), 'status', to, 'updated_at', stamp(), 'updated_by', by, ...)
end
