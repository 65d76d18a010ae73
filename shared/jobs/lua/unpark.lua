-- Takes a worker that will claim no more off the lists of parked ones. What had woken it already wakes another.
-- ARGV: now, worker, types...
-- With: queue
for i = 3, #ARGV do
  call('ZREM', P .. 'idle:' .. ARGV[i], ARGV[2])
  pass_on(ARGV[i])
end
return 1
