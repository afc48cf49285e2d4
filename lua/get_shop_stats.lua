#!lua flags=no-writes
-- GetShopStats: the shop's figures, live.
--
-- KEYS  meta, stats
-- ARGV  epoch, clock_ms ("" = Redis' clock)
-- OK      per figure: name and value, as texts: clients round integer replies near 2^53
-- @include open_meta

local reply = open_meta()
if reply then
  return reply
end
return { "OK", position, last_commit_id, now, redis.call("HGETALL", stats) }
