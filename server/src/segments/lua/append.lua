-- Keeps messages of one segment. KEYS: the segment, the room's segments by time, the room's bytes.
-- ARGV: segment, time, most chats, most bytes for gifts, seconds to live; then for each message its id if it is
-- a gift or a notice (or nothing), a random number, and what to keep.
local name = ARGV[1]
local most, room_for_gifts = tonumber(ARGV[3]), tonumber(ARGV[4])
local chats = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local before = tonumber(redis.call('HGET', KEYS[3], name) or '0')
local bytes = before
for i = 6, #ARGV, 3 do
  local id, value, field = ARGV[i], ARGV[i + 2], nil
  if id ~= '' then
    if bytes < room_for_gifts and redis.call('HEXISTS', KEYS[1], 'p' .. id) == 0 then
      field = 'p' .. id
    end
  else
    -- Each of n chats has the chance most/n to be among those kept, whenever it was said.
    local place = chats
    if chats >= most then
      place = tonumber(ARGV[i + 1]) % (chats + 1)
    end
    chats = chats + 1
    if place < most then
      field = string.format('%d', place)
    end
  end
  if field then
    bytes = bytes + #value - redis.call('HSTRLEN', KEYS[1], field)
    redis.call('HSET', KEYS[1], field, value)
  end
end
redis.call('HSET', KEYS[1], 'n', string.format('%d', chats))
redis.call('ZADD', KEYS[2], ARGV[2], name)
redis.call('HSET', KEYS[3], name, string.format('%d', bytes))
redis.call('HINCRBY', KEYS[3], 'all', string.format('%d', bytes - before))
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[5])
end
return 'ok'
