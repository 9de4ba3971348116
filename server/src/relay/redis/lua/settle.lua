-- Takes a message out of the moderators' queue, once, and tells them. Answers it, or nothing.
-- KEYS: held. ARGV: id, oldest time that still waits, channel, PUBLISH or SPUBLISH, packet.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then return '' end
redis.call('HDEL', KEYS[1], ARGV[1])
if tonumber(string.match(held, '^%d+') or '0') <= tonumber(ARGV[2]) then return '' end
redis.call(ARGV[4], ARGV[3], ARGV[5])
return held
