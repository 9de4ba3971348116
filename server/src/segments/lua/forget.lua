-- Forgets segments. KEYS: the room's segments by time, the room's bytes, then the segments; ARGV: their names.
for i, name in ipairs(ARGV) do
  local bytes = tonumber(redis.call('HGET', KEYS[2], name) or '0')
  redis.call('UNLINK', KEYS[i + 2])
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
  redis.call('HINCRBY', KEYS[2], 'all', string.format('%d', -bytes))
end
return 'ok'
