#!lua flags=allow-oom
-- Keep: puts a shop whose log holds Postgres' head back to work under an epoch, if nobody changed it since Look.
-- It runs when Redis is full, like Look.
--
-- KEYS  meta, log
-- ARGV  seen_epoch, seen_token, head_position, head_commit_id, next_epoch
-- OK      1 or 0
-- @include is_integer, bad_arguments, whole

if not is_integer(head_position, 1, 9007199254740991) or not is_integer(next_epoch, 1, 9007199254740991) then
  return bad_arguments("head_position or next_epoch")
end
local at = redis.call("HMGET", meta, "epoch", "token", "loaded")
local entry = redis.call("XRANGE", log, head_position, head_position)[1]
if (at[1] or "") ~= seen_epoch or (at[2] or "") ~= seen_token or at[3] ~= whole or not entry or entry[2][4] ~= head_commit_id then
  return 0
end
redis.call("HSET", meta, "epoch", next_epoch)
redis.call("HDEL", meta, "token", "next_epoch", "ready_time")
return 1
