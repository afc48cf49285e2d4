#!lua flags=allow-oom
-- ReleaseHold: gives the units of an open hold back to what is available. It frees memory, so it runs when Redis is full.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), hold_id
-- OK      events
-- REFUSES HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_COMMITTED   (a released hold answers with its release)
-- EVENTS  hold_released
-- @include begin, expire_due, ended_hold, read_hold, hold_json, give_back, end_hold, count_units, demand, write_levels, commit, accepted, remember

if hold_id == "" then
  return bad_arguments("hold_id")
end
local reply = begin()
if reply then
  return reply
end
local item = read_hold(hold_id)
reply = item and expire_due(item.lines, item)
if reply then
  return reply
end
item = item and read_hold(hold_id)
if not item then
  return ended_hold(hold_id, true)
end

-- From here on the call must succeed.
local at = position + 1
local stocks = give_back(item)
local events = string.format('[{"hold_released":{"hold":%s,"stocks":%s}}]', hold_json(item, 3, "", at), stocks)

commit(commit_id, call, events)
for _, line in ipairs(demand(item.lines)) do
  write_levels(read_product(line.sku))
  count_units(item.user, read_product(line.sku), -line.quantity)
end
end_hold(item, "RELEASED")
remember("request:" .. request_id, at)
return accepted(events)
