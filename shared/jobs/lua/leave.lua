-- A worker that stops takes its name off every list. Jobs that it still holds stay under their leases.
-- ARGV: now, worker, types...
-- With: queue
local worker = ARGV[2]
for i = 3, #ARGV do
  call('ZREM', P .. 'idle:' .. ARGV[i], worker)
  pass_on(ARGV[i])
end
call('ZREM', P .. 'workers', worker)
call('SREM', P .. 'retiring', worker)
call('DEL', P .. 'worker:' .. worker, P .. 'wake:' .. worker)
hint('autoscaler')
return 1
