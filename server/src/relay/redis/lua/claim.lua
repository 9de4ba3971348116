-- Gives a claim to the first who asks, for as long as somebody goes on asking.
-- KEYS: claim. ARGV: who asks, milliseconds.
local owner = redis.call('HGET', KEYS[1], 'n')
if not owner then
  owner = ARGV[1]
  redis.call('HSET', KEYS[1], 'n', owner)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return owner == ARGV[1] and 1 or 0
