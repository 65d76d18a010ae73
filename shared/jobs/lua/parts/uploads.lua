-- Part: uploads. Equal files of one owner share one object, each under a name of its own (see content: in keys.py).

local function content_of(name)
  local content = name and call('HGET', P .. 'upload:' .. name, 'content')
  return content and P .. 'content:' .. content
end

local function object_of(name)
  local content = content_of(name)
  return content and call('HGET', content, 'object') or name
end

-- Forgets what was uploaded: the object's last name is gone, or nobody came for it.
local function forget_content(content, object) call('DEL', content, P .. 'upload:' .. object) end

-- Takes a name off; what is known of the object itself stays with it.
local function take_name_off(content, object, name)
  call('HDEL', content, name)
  if name ~= object then call('DEL', P .. 'upload:' .. name) end
end

-- Gives up a name that no job uses any more; returns its object if that has no other name and no job.
-- stored_as: the object, for a name that was given up before (a crash came between).
local function give_up(name, stored_as)
  local content, object = content_of(name) or content_of(stored_as), stored_as or name
  if content then
    object = call('HGET', content, 'object') or object
    take_name_off(content, object, name)
    if call('HLEN', content) > 1 then return nil end
  end
  if call('EXISTS', P .. 'uses:' .. object) == 1 then return nil end
  if content then forget_content(content, object) end
  return object
end
