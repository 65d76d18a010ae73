-- Records an upload, under its name, among those of the same owner with the same bytes: they share the first one's object.
-- ARGV: now, content (owner, SHA-256 and ending), name, name for people, an object that was found missing or ''
-- Returns the object that holds the bytes: the name itself if it is the first one.
local content, name, missing = P .. 'content:' .. ARGV[2], ARGV[3], ARGV[5]
local object = call('HGET', content, 'object')
if not object or object == missing then
  if object and call('HEXISTS', content, object) == 0 then call('DEL', P .. 'upload:' .. object) end
  call('HSET', content, 'object', name)
  object = name
end
call('HSET', content, name, string.format('%d', NOW))
call('HSET', P .. 'upload:' .. name, 'content', ARGV[2], 'name', ARGV[4])
return object
