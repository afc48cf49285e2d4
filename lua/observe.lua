#!lua flags=no-writes
-- Observe: where the shop stands, for a read of Postgres that has to show everything acknowledged before it: the caller
-- waits until what stands here is durable, also when Postgres lost its tail and has to be healed from the log first.
--
-- KEYS  meta
-- ARGV  epoch, clock_ms ("" = Redis' clock)
-- OK      nothing
-- @include open_meta

local reply = open_meta()
if reply then
  return reply
end
return { "OK", position, last_commit_id, now, "" }
