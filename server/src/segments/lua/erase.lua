-- Takes messages out of one segment. KEYS: the segment, the room's bytes. ARGV: the segment's name, then pairs
-- of a field and its value: a place that another message has taken meanwhile is left alone.
local erased, bytes = 0, 0
for i = 2, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    erased, bytes = erased + 1, bytes + #ARGV[i + 1]
  end
end
redis.call('HINCRBY', KEYS[2], ARGV[1], string.format('%d', -bytes))
redis.call('HINCRBY', KEYS[2], 'all', string.format('%d', -bytes))
return erased
