-- Takes a message out of the moderators' queue, once, and tells them. Answers it, or nothing.
-- KEYS: held, once. ARGV: id, oldest time that still waits, channel, PUBLISH or SPUBLISH, packet, this call,
-- seconds to remember it: a cluster's connection repeats a call whose answer got lost.
local again = redis.call('HMGET', KEYS[2], 'n', 'h')
if again[1] == ARGV[6] then return {again[2]} end
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then return {} end
redis.call('HDEL', KEYS[1], ARGV[1])
if tonumber(string.match(held, '^%d+') or '0') <= tonumber(ARGV[2]) then return {} end
redis.call('HSET', KEYS[2], 'n', ARGV[6], 'h', held)
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call(ARGV[4], ARGV[3], ARGV[5])
return {held}
