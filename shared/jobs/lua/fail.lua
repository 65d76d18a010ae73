-- Ends an attempt that failed. By the input's fault: the job is failed, never retried. Else: a loss, tried again
-- later or buried.
-- ARGV: now, worker, id, attempt, reason, retry 0/1, delay in ms, fact pairs...
-- Returns 'failed', 'requeued' or 'buried'; '' if the token is no longer current.
-- With: queue, ending
local worker, id, reason = ARGV[2], ARGV[3], ARGV[5]
local f = fields_of(id, 'status', 'attempt', 'updated_by')
if not owns(f, ARGV[4], worker) then
  not_held(worker, id, f[1], f[3])
  return ''
end
if ARGV[6] == '1' then return lose(id, f[1], worker, worker, 'failed: ' .. reason, tonumber(ARGV[7])) end
finish(id, f[1], 'failed', worker, {'reason', reason, unpack(ARGV, 8)})
leave_lease(id, type_of(id), worker)
return 'failed'
