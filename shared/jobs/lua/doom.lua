-- Marks objects as doomed that nobody wants at this very moment, so that none can name them while they are deleted: no
-- job names them, and no upload of the same bytes is young enough to still get its job. Old names of uploads that no
-- job came for are taken off on the way.
-- ARGV: now, ms for which an upload waits for its job, 1 only to look and change nothing, objects...
-- Returns the objects that are (or would be) marked.
-- With: uploads
local grace, look, marked = tonumber(ARGV[2]), ARGV[3] == '1', {}
local MOST = 1000  -- names looked at in one step; an object with more of them stays for now

local function wanted(content, object)
  local names = call('HRANDFIELD', content, MOST, 'WITHVALUES')
  local keep = call('HLEN', content) > #names / 2
  for i = 1, #names, 2 do
    local name = names[i]
    if name ~= 'object' then
      if call('EXISTS', P .. 'uses:' .. name) == 1 or NOW - tonumber(names[i + 1]) < grace then
        keep = true
      elseif not look then
        take_name_off(content, object, name)
      end
    end
  end
  return keep
end

for i = 4, #ARGV do
  local object = ARGV[i]
  local content = content_of(object)
  -- A copy whose owner had these bytes already, and which should have been removed at once, is no upload's object.
  if content and object_of(object) ~= object then content = nil end
  local keep = content and wanted(content, object)
  -- Also where other bytes have taken its place by now: a job may have been submitted before that.
  local used = call('EXISTS', P .. 'uses:' .. object) == 1
  if not keep and not used then
    if not look then
      if content then forget_content(content, object) end
      call('SADD', P .. 'doomed', object)
    end
    marked[#marked + 1] = object
  end
end
return marked
