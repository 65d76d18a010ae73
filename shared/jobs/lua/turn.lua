-- Gives a piece of housekeeping to one process at a time.
-- ARGV: now, name of the work, who asks, ms that the turn lasts or, at its end, until the next may begin; begin/end
-- Returns 1 if the turn is now the asker's (or was ended by it), else 0.
local key = P .. 'turn:' .. ARGV[2]
local holder = call('GET', key)
if ARGV[5] == 'end' then
  if holder ~= ARGV[3] then return 0 end
  if tonumber(ARGV[4]) > 0 then call('SET', key, '', 'PX', ARGV[4]) else call('DEL', key) end
elseif holder and holder ~= ARGV[3] then
  return 0
else
  call('SET', key, ARGV[3], 'PX', ARGV[4])
end
return 1
