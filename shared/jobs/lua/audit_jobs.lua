-- Checks everything that must be true of jobs, each at one moment.
-- ARGV: now, repair 0/1, by whom, ids...
-- Returns {code, id, detail, ...} for what is broken. What is repaired is repaired in the same step.
-- With: queue, ending
local repair, by, reply = ARGV[2] == '1', ARGV[3], {}
local NEEDED = {'status', 'owner', 'priority', 'attempt', 'losses', 'type', 'created_at', 'updated_at'}

local function found(code, id, detail)
  reply[#reply + 1] = code
  reply[#reply + 1] = id
  reply[#reply + 1] = detail
end

local function whole(text) return text and string.match(text, '^%-?%d+$') ~= nil end

local function missing(f)
  local names = {}
  for i, name in ipairs(NEEDED) do
    if not f[i] then names[#names + 1] = name end
  end
  for _, i in ipairs({3, 4, 5}) do
    if f[i] and not whole(f[i]) then names[#names + 1] = NEEDED[i] .. ' as a whole number' end
  end
  return names
end

local function places(id, kind, owner)
  return call('ZSCORE', P .. 'queue:' .. kind .. ':' .. owner, id), call('ZSCORE', P .. 'delayed:' .. kind, id),
    call('ZSCORE', P .. 'leases:' .. kind, id)
end

local function open_children(id)
  local open = 0
  for _, child in ipairs(call('LRANGE', P .. 'children:' .. id, 0, -1)) do
    local status = fields_of(child, 'status')[1]
    if status and not FINAL[status] then open = open + 1 end
  end
  return open
end

local function check_new(id, kind, f, queued, delayed, leased)
  if not queued and not delayed then
    found('unqueued-job', id, 'it is new but in no queue')
    if repair then enqueue(id, kind, f[2], tonumber(f[3]), true) end
  end
  if queued and delayed then
    found('queued-twice', id, 'it is in its queue and among the delayed')
    if repair then
      call('ZREM', P .. 'delayed:' .. kind, id)
      call('DECR', P .. 'depth:' .. kind)
    end
  end
  if leased then
    found('lease-of-idle-job', id, 'it is new but has a lease')
    if repair then call('ZREM', P .. 'leases:' .. kind, id) end
  end
end

local function check_working(id, kind, f, leased)
  local worker = call('HGET', job_key(id), 'updated_by') or ''
  if not leased then
    found('running-without-lease', id, 'it is ' .. f[1] .. ' by ' .. worker .. ' without a lease')
    if repair then
      call('ZADD', P .. 'leases:' .. kind, NOW, id)
      hint('janitor')
    end
  elseif tonumber(leased) < NOW - 60000 then
    found('overdue-lease', id, 'its lease ran out ' .. math.floor((NOW - tonumber(leased)) / 1000) .. ' s ago: no janitor runs')
    if repair then hint('janitor') end
  end
  if call('SISMEMBER', P .. 'held:' .. worker, id) == 0 then
    found('lease-without-worker', id, 'it is ' .. f[1] .. ' but ' .. worker .. ' does not hold it')
    if repair then call('SADD', P .. 'held:' .. worker, id) end
  end
end

local function check_waiting(id, kind, f)
  local told, open = tonumber(call('GET', P .. 'open:' .. id) or '-1'), open_children(id)
  if told ~= open or open == 0 then
    found('wrong-count-of-parts', id, 'it waits for ' .. told .. ' parts but ' .. open .. ' are unfinished')
    if repair and open > 0 then call('SET', P .. 'open:' .. id, open) end
    if repair and open == 0 then
      call('DEL', P .. 'open:' .. id)
      move(id, 'waiting', 'new', by)
      enqueue(id, kind, f[2], tonumber(f[3]), true)
    end
  end
end

local function check_parent(id, status)
  local parent = call('HGET', job_key(id), 'parent')
  if not parent or call('EXISTS', job_key(parent)) == 1 or call('ZSCORE', P .. 'expiry', id) == '0' then return end
  found('part-without-parent', id, 'its parent ' .. parent .. ' is gone')
  if not repair then return end
  call('DEL', P .. 'open:' .. parent)
  call('ZADD', P .. 'expiry', 0, id)
  hint('janitor')
  return not FINAL[status]
end

local function check(id)
  local key, kind = job_key(id), type_of(id)
  local answer = call('TYPE', key)
  if answer.ok == 'none' then return end
  local f = answer.ok == 'hash' and call('HMGET', key, unpack(NEEDED)) or {}
  local lacking = answer.ok == 'hash' and missing(f) or {'its hash (it is a ' .. answer.ok .. ')'}
  if #lacking == 0 and not FOLLOWING[f[1]] then lacking = {'a known status (it is ' .. f[1] .. ')'} end
  if #lacking > 0 then
    found('malformed-job', id, 'it lacks ' .. table.concat(lacking, ', '))
    if repair then
      leave_queue(id, kind, f[2] or 'anonymous')
      call('ZREM', P .. 'leases:' .. kind, id)
      if answer.ok == 'hash' and not FINAL[f[1] or ''] then condemn(id, kind) else set_aside(id, kind) end
    end
    return
  end
  local queued, delayed, leased = places(id, kind, f[2])
  if f[1] == 'new' then
    check_new(id, kind, f, queued, delayed, leased)
  else
    if queued or delayed then
      found('queued-though-' .. (FINAL[f[1]] and 'finished' or 'not-new'), id, 'it is ' .. f[1] .. ' but waits in a queue')
      if repair then leave_queue(id, kind, f[2]) end
    end
    if WORKING[f[1]] then
      check_working(id, kind, f, leased)
    elseif leased then
      found('lease-of-idle-job', id, 'it is ' .. f[1] .. ' but has a lease')
      if repair then call('ZREM', P .. 'leases:' .. kind, id) end
    end
    if f[1] == 'waiting' then check_waiting(id, kind, f) end
  end
  if check_parent(id, f[1]) then
    leave_queue(id, kind, f[2])
    call('ZREM', P .. 'leases:' .. kind, id)
    write_facts(id, {'reason', 'Its parent is gone.', 'finished_at', stamp(), 'failures', ''}, 'found_by_end')
    move(id, f[1], 'canceled', by)
  end
end

for i = 4, #ARGV do check(ARGV[i]) end
return reply
