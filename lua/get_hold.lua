#!lua flags=no-writes
-- GetHold: an open hold; one that ended is read from Postgres.
--
-- KEYS  meta, holds
-- ARGV  epoch, clock_ms ("" = Redis' clock), hold_id
-- OK      open ("1" or "0")
-- DUE     when it is due: its expiry has to be committed first
-- @include open_meta, read_hold

local reply = open_meta()
if reply then
  return reply
end
local item = read_hold(hold_id)
if item and item.expire <= now then
  return { "DUE" }
end
return { "OK", position, last_commit_id, now, item and "1" or "0" }
