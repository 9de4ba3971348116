-- Numbers an event, keeps it, and tells everybody, in one step.
-- KEYS: meta, log, once, combo. ARGV: event, new epoch, log length, log seconds, meta seconds, channel,
-- PUBLISH or SPUBLISH, once seconds (0: no key), body, id, combo's pause in ms (0: none), count of the gift.
-- An epoch belongs to one run of one primary: after a failover or a restart the run id is another one, and
-- the log may lack what was acknowledged.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local digest
if ARGV[8] ~= '0' then
  digest = redis.sha1hex(ARGV[9])
  local first = redis.call('HMGET', KEYS[3], 'd', 'e', 'o', 'i')
  if first[1] then
    if first[1] ~= digest then return {'conflict'} end
    return {'again', first[2], first[3], first[4]}
  end
end
local meta = redis.call('HMGET', KEYS[1], 'e', 'r')
local epoch = meta[1]
if not epoch or meta[2] ~= run then
  epoch = ARGV[2]
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'e', epoch, 'r', run)
end
local event = ARGV[1]
if ARGV[11] ~= '0' then
  local total = redis.call('INCRBY', KEYS[4], ARGV[12])
  redis.call('PEXPIRE', KEYS[4], ARGV[11])
  if total ~= tonumber(ARGV[12]) then
    event = string.sub(event, 1, -2) .. string.format(',"combo":%.0f}', total)
  end
end
local offset = redis.call('HINCRBY', KEYS[1], 'o', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], offset .. '-0', 'v', event)
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
if digest then
  redis.call('HSET', KEYS[3], 'd', digest, 'e', epoch, 'o', offset, 'i', ARGV[10])
  redis.call('EXPIRE', KEYS[3], ARGV[8])
end
redis.call(ARGV[7], ARGV[6], 'P' .. epoch .. ' ' .. offset .. ' ' .. event)
return {'ok', epoch, tostring(offset), ARGV[10]}
