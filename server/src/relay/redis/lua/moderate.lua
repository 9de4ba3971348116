-- Keeps or lifts a mute or ban, and tells everybody.
-- KEYS: moderation. ARGV: target, end in ms (0: until lifted; empty: lift) and what else belongs to it, now in ms, most entries,
-- seconds to keep, channel, PUBLISH or SPUBLISH, packet.
local found = 1
if ARGV[2] == '' then
  found = redis.call('HDEL', KEYS[1], ARGV[1])
else
  if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then
    local all = redis.call('HGETALL', KEYS[1])
    for i = 1, #all, 2 do
      local til = tonumber(string.match(all[i + 1], '^%d+') or '0')
      if all[i] ~= 'version' and til > 0 and til < tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
    end
    if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then return 'full' end
  end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call(ARGV[7], ARGV[6], ARGV[8])
return tostring(found)
