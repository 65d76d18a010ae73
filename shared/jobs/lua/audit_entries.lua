-- Checks entries of lists, sets and single keys that name jobs: each must name one that is as the entry says.
-- ARGV: now, repair 0/1, kind of the key (as in keys.py), rest of its name, members...
-- Returns {code, member, detail, ...} for what is broken. What is repaired is repaired in the same step.
-- With: queue, ending, uploads
local repair, kind, rest, reply = ARGV[2] == '1', ARGV[3], ARGV[4], {}
local name = P .. kind .. rest

local function found(code, member, detail)
  reply[#reply + 1] = code
  reply[#reply + 1] = member
  reply[#reply + 1] = detail
end

local function status_of(id)
  local f = fields_of(id, 'status', 'updated_by', 'owner')
  return f[1] or nil, f[2], f[3]
end

local remove = {
  zset = function(member) return call('ZREM', name, member) end,
  set = function(member) return call('SREM', name, member) end,
}

local function drop(member)
  local shape = call('TYPE', name).ok
  return remove[shape] and remove[shape](member) or 0
end

local check = {}

check['queue:'] = function(id)
  if not call('ZSCORE', name, id) then return end
  local of, owner = string.match(rest, '^([^:]+):(.*)$')
  local status, _, owned = status_of(id)
  if status == 'new' and type_of(id) == of and owned == owner then return end
  found('queue-entry-without-job', id, 'a queue of ' .. of .. ' names it, but it is ' .. (status or 'no job'))
  if repair and drop(id) == 1 then
    call('DECR', P .. 'depth:' .. of)
    if call('EXISTS', name) == 0 then call('ZREM', P .. 'queue:' .. of, owner) end
    if not status then set_aside(id, of) end
  end
end

check['delayed:'] = function(id)
  if not call('ZSCORE', name, id) then return end
  local status = status_of(id)
  if status == 'new' then return end
  found('queue-entry-without-job', id, 'it is listed as delayed, but is ' .. (status or 'no job'))
  if repair and drop(id) == 1 then
    call('DECR', P .. 'depth:' .. rest)
    if not status then set_aside(id, rest) end
  end
end

check['leases:'] = function(id)
  if not call('ZSCORE', name, id) then return end
  local status = status_of(id)
  if WORKING[status or ''] then return end
  found('lease-without-job', id, 'it has a lease, but is ' .. (status or 'no job'))
  if repair and drop(id) == 1 and not status then set_aside(id, rest) end
end

check['held:'] = function(id)
  if call('SISMEMBER', name, id) == 0 then return end
  local status, worker = status_of(id)
  if WORKING[status or ''] and worker == rest then return end
  found('held-though-not-running', id, 'the worker ' .. rest .. ' holds it, but it is ' .. (status or 'no job'))
  if repair then drop(id) end
end

check['expiry'] = function(id)
  if not call('ZSCORE', name, id) then return end
  local status = status_of(id)
  if FINAL[status or ''] then return end
  found('expiry-without-job', id, 'it is to be forgotten, but is ' .. (status or 'no job'))
  if repair then drop(id) end
end

check['dead:'] = function(id)
  if not call('ZSCORE', name, id) or status_of(id) == 'failed' then return end
  found('set-aside', id, 'it was moved aside: it is no sound job')
  if repair then drop(id) end
end

local function names_a_job(id)
  local there = call('SISMEMBER', name, id) == 1
  if not there or status_of(id) then return end
  found('reference-without-job', id, kind .. rest .. ' names it, but it is no job')
  if repair then drop(id) end
end

local function lists_a_job(id)
  if not call('ZSCORE', name, id) or status_of(id) then return end
  found('reference-without-job', id, kind .. rest .. ' names it, but it is no job')
  if repair then drop(id) end
end

local function belongs_to_a_job()
  if call('EXISTS', name) == 0 or call('EXISTS', job_key(rest)) == 1 then return end
  found('left-over', rest, kind .. rest .. ' belongs to no job')
  if repair then call('DEL', name) end
end

check['uses:'] = names_a_job
check['owned:'] = lists_a_job
check['batch:'] = lists_a_job
check['history:'] = belongs_to_a_job
check['children:'] = belongs_to_a_job
check['open:'] = belongs_to_a_job

check['idempotency:'] = function()
  local id = call('GET', name)
  if not id or status_of(id) then return end
  found('reference-without-job', id, kind .. rest .. ' names it, but it is no job')
  if repair then call('DEL', name) end
end

-- An upload and its content name each other; so does the object, as long as the content is there.
check['content:'] = function(member)
  local upload = call('HGET', name, member)
  if not upload then return end
  if member ~= 'object' then upload = member end
  local object = call('HGET', name, 'object')
  if object and content_of(upload) == name then return end
  found('content-without-upload', member, kind .. rest .. ' names it, but it is not known as an upload of these bytes')
  if not repair then return end
  if object and member ~= 'object' then call('HDEL', name, member) else call('DEL', name) end
end

check['upload:'] = function()
  if call('EXISTS', name) == 0 then return end
  local content = content_of(rest)
  if content and (call('HEXISTS', content, rest) == 1 or call('HGET', content, 'object') == rest) then return end
  found('left-over', rest, kind .. rest .. ' belongs to no known bytes')
  if repair then call('DEL', name) end
end

check['expire_after'] = function(id)
  if call('HEXISTS', name, id) == 0 then return end
  local status = status_of(id)
  if status and not FINAL[status] then return end
  found('reference-without-job', id, 'expire_after names it, but it is ' .. (status or 'no job'))
  if repair then call('HDEL', name, id) end
end

for i = 5, #ARGV do check[kind](ARGV[i]) end
return reply
