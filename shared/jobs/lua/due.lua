-- Lists what the janitor has to forget. Reads only.
-- ARGV: now, most
-- Returns {ms until the next is due or -1, ids that are due...}
local reply = call('ZRANGEBYSCORE', P .. 'expiry', '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[2]))
local nearest = call('ZRANGEBYSCORE', P .. 'expiry', '(' .. NOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
table.insert(reply, 1, nearest and (tonumber(nearest) - NOW) or -1)
return reply
