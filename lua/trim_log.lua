#!lua flags=allow-oom
-- TrimLog: notes how far Postgres is, lets go of entries further than `margin` behind, and tells every process's watchers.
--
-- KEYS  meta, log
-- ARGV  epoch, head_position, margin, hint_channel, hint
-- OK      nothing

if redis.call("HGET", meta, "epoch") == epoch then
  redis.call("HSET", meta, "flushed", head_position)
  if tonumber(head_position) > tonumber(margin) then
    redis.call("XTRIM", log, "MINID", "~", string.format("%d", head_position - margin))
  end
end
redis.call("PUBLISH", hint_channel, hint)
return { "OK" }
