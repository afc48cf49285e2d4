#!lua flags=allow-oom
-- TrimLog: notes how far Postgres is, and lets go of entries further than `margin` behind.
--
-- KEYS  meta, log
-- ARGV  epoch, head_position, margin
-- OK      nothing
-- @include is_integer, bad_arguments

if not is_integer(head_position, 1, 9007199254740991) or not is_integer(margin, 0, 9007199254740991) then
  return bad_arguments("head_position or margin")
end
local at = redis.call("HMGET", meta, "epoch", "flushed")
if at[1] == epoch then
  -- A slow process must not take back what a faster one noted: OPEN fences a shop whose Postgres is behind this.
  if tonumber(head_position) > tonumber(at[2]) then
    redis.call("HSET", meta, "flushed", head_position)
  end
  if tonumber(head_position) > tonumber(margin) then
    redis.call("XTRIM", log, "MINID", "~", string.format("%d", head_position - margin))
  end
end
return { "OK" }
