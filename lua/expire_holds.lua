#!lua flags=allow-oom
-- ExpireHolds: commits the expiry of due holds and unpaid orders, at most 100: those of the given hold or order (`order/<id>`)
-- and SKUs, else the shop's oldest.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  epoch, commit_id, memory_count, clock_ms ("" = Redis' clock), hold_id ("" = none), then per SKU: sku
-- OK      events (always empty: nobody asked for them)
-- AGAIN   when more of what was given is due
-- EVENTS  hold_expired, order_cancelled
-- @include open_meta, read_due, expire, expire_due, is_integer, bad_arguments, integer

if #commit_id ~= 36 or not is_integer(memory_count, 1, 9007199254740991) or (clock_ms ~= "" and not is_integer(clock_ms, 0, 9007199254740991)) then
  return bad_arguments("commit_id, memory_count or clock_ms")
end
local reply = open_meta()
if reply then
  return reply
end
if hold_id ~= "" or #ARGV >= rest then
  local lines = {}
  for index = rest, #ARGV do
    lines[#lines + 1] = { sku = ARGV[index] }
  end
  reply = expire_due(lines, hold_id ~= "" and read_due(hold_id) or nil)
  return reply or { "OK", position, last_commit_id, now, "[]" }
end
local ids = redis.call("ZRANGEBYSCORE", due, "-inf", integer(now), "LIMIT", 0, 100)
local expired = #ids > 0 and expire(ids) or 0
return { (#ids == 100 or expired < #ids) and "AGAIN" or "OK", position, last_commit_id, now, "[]" }
