#!lua flags=allow-oom
-- Finish: the last step of a rebuild: opens the shop under its new epoch, if the rebuild is still the one in charge.
-- It runs when Redis is full, like Look.
--
-- KEYS  meta
-- ARGV  token, next_epoch
-- OK      1 or 0
-- @include is_integer, bad_arguments, whole

if token == "" or not is_integer(next_epoch, 1, 9007199254740991) then
  return bad_arguments("token or next_epoch")
end
local at = redis.call("HMGET", meta, "token", "loaded")
if at[1] ~= token or at[2] ~= whole then
  return 0
end
redis.call("HSET", meta, "epoch", next_epoch)
redis.call("HDEL", meta, "token", "next_epoch", "ready_time")
return 1
