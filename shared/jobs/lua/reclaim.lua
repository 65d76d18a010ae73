-- Takes back jobs whose lease ran out, or which a vanished worker held: a loss each, to the front of the queue or
-- buried. Also moves delayed jobs that are due. For the janitor; several may run it at once.
-- ARGV: now, most jobs of a type in one call, by whom, types... (none: all that ever had a job)
-- Returns {ms until the next deadline or due time or -1, id, outcome, id, outcome, ...}
-- With: queue, ending
local most, by = tonumber(ARGV[2]), ARGV[3]
local reply, nearest = {-1}, nil
local function sooner(at)
  if at and (not nearest or tonumber(at) < nearest) then nearest = tonumber(at) end
end

local function reclaim(kind)
  local leases = P .. 'leases:' .. kind
  for _, id in ipairs(call('ZRANGEBYSCORE', leases, '-inf', NOW, 'LIMIT', 0, most)) do
    local f = fields_of(id, 'status', 'updated_by')
    local outcome = 'aside'
    if WORKING[f[1] or ''] then
      outcome = lose(id, f[1], f[2], by, 'lost its worker ' .. (f[2] or '?') .. ', whose lease ran out', 0)
    else
      call('ZREM', leases, id)
      if not FINAL[f[1] or ''] then set_aside(id, kind) end
    end
    add(reply, id, outcome)
  end
  local moved = promote(kind)
  if moved > 0 then wake(kind, moved) end
  sooner(call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2])
  sooner(call('ZRANGE', P .. 'delayed:' .. kind, 0, 0, 'WITHSCORES')[2])
end

local trouble
for _, kind in ipairs(#ARGV > 3 and {unpack(ARGV, 4)} or call('SMEMBERS', P .. 'kinds')) do
  local sound, fault = pcall(reclaim, kind)  -- a type with a key of a wrong kind waits, and no other with it
  if not sound then trouble = fault end
end
if trouble then return type(trouble) == 'table' and trouble or redis.error_reply(trouble) end
if nearest then reply[1] = math.max(0, nearest - NOW) end
return reply
