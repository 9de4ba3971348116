-- Keeps a message for the moderators, and tells them.
-- KEYS: held. ARGV: id, time and message, oldest time that still waits, most messages, seconds to keep,
-- channel, PUBLISH or SPUBLISH, packet.
local all = redis.call('HGETALL', KEYS[1])
local count = #all / 2
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^%d+') or '0')
  if at <= tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], all[i])
    count = count - 1
  end
end
if count >= tonumber(ARGV[4]) then return 'full' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call(ARGV[7], ARGV[6], ARGV[8])
return 'ok'
