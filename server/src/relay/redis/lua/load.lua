-- The room's lane and its moderation, as far as the caller does not know them.
-- KEYS: meta, log, moderation. ARGV: new epoch, known epoch, known offset, known version, meta seconds,
-- moderation seconds, channel, PUBLISH or SPUBLISH.
-- A lower offset under the same epoch is an old snapshot: it begins a new epoch, as another run id does.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', KEYS[1], 'e', 'r', 'o')
local epoch, offset = meta[1], tonumber(meta[3] or '0')
if not epoch or meta[2] ~= run or (epoch == ARGV[2] and offset < tonumber(ARGV[3])) then
  epoch, offset = ARGV[1], 0
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'e', epoch, 'r', run, 'o', 0)
  redis.call(ARGV[8], ARGV[7], 'E' .. epoch)
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
local from = '-'
if epoch == ARGV[2] then from = string.format('%.0f-0', tonumber(ARGV[3]) + 1) end
local version = redis.call('HGET', KEYS[3], 'version') or '0'
local moderation = {}
if version ~= ARGV[4] then
  moderation = redis.call('HGETALL', KEYS[3])
end
redis.call('EXPIRE', KEYS[3], ARGV[6])
return {epoch, string.format('%.0f', offset), redis.call('XRANGE', KEYS[2], from, '+'), version, moderation}
