-- remember: keeps `request:<id>` and other fields in the recent memory: two hashes, of which the older is emptied when the
-- newer has `memory_count` fields, and never before its youngest field is durable and 10 minutes old.
-- @include state
local function remember(...)
  local current = bucket == "1" and recent_1 or recent_0
  redis.call("HSET", current, ...)
  if position % 100 ~= 0 or redis.call("HLEN", current) < tonumber(memory_count) then
    return
  end
  local turn = redis.call("HMGET", meta, "turn_time", "turn_position", "flushed")
  local turn_time, turn_position, flushed = tonumber(turn[1]), tonumber(turn[2]), tonumber(turn[3])
  if now - turn_time < 600000 or turn_position > flushed then
    return
  end
  if redis.call("UNLINK", bucket == "1" and recent_0 or recent_1) == 1 then
    redis.call("HSET", meta, "forgotten", turn_time, "forgotten_position", turn_position)
  end
  bucket, turned = bucket == "0" and "1" or "0", true
  redis.call("HSET", meta, "bucket", bucket, "turn_time", now, "turn_position", position)
end
