-- Marks workers as retiring, so that claim refuses them, if they hold nothing at this very moment.
-- ARGV: now, workers...
-- Returns the workers that are marked: those that hold nothing.
local marked = {}
for i = 2, #ARGV do
  local worker = ARGV[i]
  if call('EXISTS', P .. 'held:' .. worker) == 0 then
    call('SADD', P .. 'retiring', worker)
    marked[#marked + 1] = worker
  end
end
return marked
