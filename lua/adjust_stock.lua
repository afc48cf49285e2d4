#!lua
-- AdjustStock: adds to or takes from what is available of one SKU.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), sku, delta_count, reason, reference_json, expected_available_count ("" = any)
-- OK      events
-- REFUSES PRODUCT_NOT_FOUND, STOCK_CHANGED, SOLD_OUT, HELD_OUT, BALANCE_LIMIT
-- EVENTS  stock_adjusted
-- @include begin, expire_due, read_product, stock_json, write_levels, commit, accepted, remember, refuse, until_next_due, integer

if sku == "" or not is_integer(delta_count, -9007199254740991, 9007199254740991) or delta_count == "0" or not is_integer(reason, 1, 99)
  or reference_json == "" or (expected_available_count ~= "" and not is_integer(expected_available_count, 0, 9007199254740991)) then
  return bad_arguments("sku, delta_count, reason, reference_json or expected_available_count")
end
local reply = begin()
if reply then
  return reply
end
reply = expire_due({ { sku = sku } }, nil)
if reply then
  return reply
end
local item = read_product(sku)
if not item then
  return refuse("PRODUCT_NOT_FOUND", { "sku", sku })
end
if expected_available_count ~= "" and tonumber(expected_available_count) ~= item.available then
  return refuse("STOCK_CHANGED", { "sku", sku, "expected_available_count", expected_available_count, "available_count", integer(item.available) })
end
local delta = tonumber(delta_count)
if item.available + delta < 0 then
  local held_out = item.available + item.held + delta >= 0
  return refuse(held_out and "HELD_OUT" or "SOLD_OUT", { "sku", sku, "requested_count", integer(-delta), "available_count",
    integer(item.available), "held_count", integer(item.held), "delta_count", delta_count }, held_out and until_next_due() or nil)
end
-- The sum of all deltas is available + held + sold, and it is what must stay a safe integer.
if item.available + item.held + item.sold + delta > 9007199254740991 then
  return refuse("BALANCE_LIMIT", { "sku", sku, "available_count", integer(item.available) })
end

-- From here on the call must succeed.
local at = position + 1
item.available = item.available + delta
local events = string.format('[{"stock_adjusted":{"stock":%s,"delta_count":%d,"reason":%s,"reference":%s}}]', stock_json(item), delta,
  reason, reference_json)

commit(commit_id, call, events)
write_levels(item)
remember("request:" .. request_id, at)
return accepted(events)
