-- remember: keeps `request:<id>` and other fields in the recent memory: two hashes, of which the older is emptied when the
-- newer has `memory_count` fields, and never before its youngest field is durable and 10 minutes old.
-- @include state, integer
local function remember(...)
  local current, previous = recent_0, recent_1
  if bucket == "1" then
    current, previous = recent_1, recent_0
  end
  redis.call("HSET", current, ...)
  if position % 100 ~= 0 or redis.call("HLEN", current) < tonumber(memory_count) then
    return
  end
  local turn = redis.call("HMGET", meta, "turn_time", "turn_position", "flushed")
  local turn_time, turn_position, flushed = tonumber(turn[1]), tonumber(turn[2]), tonumber(turn[3])
  if now - turn_time < 600000 or turn_position > flushed then
    return
  end
  if redis.call("EXISTS", previous) == 1 then
    redis.call("UNLINK", previous)
    redis.call("HSET", meta, "forgotten", integer(turn_time))
  end
  redis.call("HSET", meta, "bucket", bucket == "0" and "1" or "0", "turn_time", integer(now), "turn_position", integer(position))
end
