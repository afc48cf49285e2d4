#!lua flags=no-writes
-- GetOrder: whether an order waits for its payment; orders are read from Postgres.
--
-- KEYS  meta, orders
-- ARGV  epoch, clock_ms ("" = Redis' clock), order_id
-- OK      waits ("1" or "0")
-- DUE     when it waits no longer: its expiry has to be committed first
-- @include open_meta

local reply = open_meta()
if reply then
  return reply
end
local expire = redis.call("HGET", orders, order_id .. ":expire")
if expire and expire ~= "" and tonumber(expire) <= now then
  return { "DUE" }
end
return { "OK", position, last_commit_id, now, expire and "1" or "0" }
