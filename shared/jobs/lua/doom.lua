-- Marks objects as doomed that no job names at this very moment, so that none can name them while they are deleted.
-- ARGV: now, objects...
-- Returns the objects that are marked.
local marked = {}
for i = 2, #ARGV do
  if call('EXISTS', P .. 'uses:' .. ARGV[i]) == 0 then
    call('SADD', P .. 'doomed', ARGV[i])
    marked[#marked + 1] = ARGV[i]
  end
end
return marked
