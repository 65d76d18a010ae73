-- Checks that the ring of owners and the count of each queue agree with what waits, each queue at one moment.
-- ARGV: now, repair 0/1, types and owners, as type, count of owners, owners...
-- Returns {code, type, detail, ...} for what is broken. What is repaired is repaired in the same step.
-- With: queue
local repair, reply, at = ARGV[2] == '1', {}, 3

local function found(code, kind, detail)
  reply[#reply + 1] = code
  reply[#reply + 1] = kind
  reply[#reply + 1] = detail
end

while at <= #ARGV do
  local kind, n = ARGV[at], tonumber(ARGV[at + 1])
  local ring, waiting, owners = P .. 'queue:' .. kind, call('ZCARD', P .. 'delayed:' .. kind), {}
  for i = at + 2, at + 1 + n do owners[ARGV[i]] = true end
  for _, owner in ipairs(call('ZRANGE', ring, 0, -1)) do owners[owner] = true end
  for owner in pairs(owners) do
    local size = call('ZCARD', ring .. ':' .. owner)
    waiting = waiting + size
    local listed = call('ZSCORE', ring, owner)
    if size > 0 and not listed then
      found('owner-without-turn', kind, owner .. ' has ' .. size .. ' waiting jobs but no turn')
      if repair then call('ZADD', ring, 'NX', call('INCR', P .. 'turn'), owner) end
    elseif size == 0 and listed then
      found('turn-without-jobs', kind, owner .. ' has a turn but no waiting jobs')
      if repair then call('ZREM', ring, owner) end
    end
  end
  local depth = tonumber(call('GET', P .. 'depth:' .. kind) or '0')
  if depth ~= waiting then
    found('wrong-depth', kind, 'its count says ' .. depth .. ' but ' .. waiting .. ' jobs wait')
    if repair then
      call('SET', P .. 'depth:' .. kind, waiting)
      hint('autoscaler')
    end
  end
  at = at + 2 + n
end
return reply
