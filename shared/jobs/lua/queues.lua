-- Reads all queues at one moment.
-- ARGV: now, types...
-- Returns for each type: waiting, running, delayed, dead, age of the oldest waiting job in ms, owners with waiting jobs
local reply = {}
for i = 2, #ARGV do
  local kind, oldest = ARGV[i], 0
  for _, owner in ipairs(call('ZRANGE', P .. 'queue:' .. kind, 0, 9)) do
    local id = call('ZRANGE', P .. 'queue:' .. kind .. ':' .. owner, 0, 0)[1]
    local number = id and tonumber(fields_of(id, 'created_ms')[1])
    if number then oldest = math.max(oldest, NOW - number) end
  end
  reply[#reply + 1] = {tonumber(call('GET', P .. 'depth:' .. kind) or '0'), call('ZCARD', P .. 'leases:' .. kind),
    call('ZCARD', P .. 'delayed:' .. kind), call('ZCARD', P .. 'dead:' .. kind), oldest,
    call('ZCARD', P .. 'queue:' .. kind)}
end
return reply
