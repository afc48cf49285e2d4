#!lua flags=allow-oom
-- CancelOrder: ends an order that waits for its payment and gives its units back: the caller does it (external), or the payment
-- worker (gateway). It frees memory, so it runs when Redis is full.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), as_of_position, record (see find_order), order_id, reason_json, by_worker ("1" or "0")
-- OK      events
-- REFUSES ORDER_NOT_FOUND, ORDER_STATE_INVALID   (a cancelled order answers with its last change)
-- EVENTS  order_cancelled
-- @include begin, is_record, find_order, refuse_state, change_order, order_json, give_back, demand, read_product, write_levels, count_units, end_order, commit, accepted, remember, integer

if order_id == "" or not is_record() or reason_json == "" or (by_worker ~= "0" and by_worker ~= "1") then
  return bad_arguments("order_id, as_of_position, record, reason_json or by_worker")
end
local reply = begin()
if reply then
  return reply
end
local order
order, reply = find_order()
if not order then
  return reply
end
-- Each payment method has one party that says that it was not paid.
local theirs = order.method == (by_worker == "1" and 4 or 2)
if theirs and order.state == 4 then
  return answer_from_log("EXISTS", integer(order.at))
end
if not theirs or order.state ~= 1 then
  return refuse_state(order, theirs)
end

-- From here on the call must succeed.
local stocks = give_back(order)
change_order(order, 4)
order.cancel_reason = reason_json
local events = string.format('[{"order_cancelled":{"order":%s,"stocks":%s}}]', order_json(order), stocks)

commit(commit_id, call, events)
for _, line in ipairs(demand(order.lines)) do
  write_levels(read_product(line.sku))
  count_units(order.user, read_product(line.sku), -line.quantity)
end
end_order(order)
remember("request:" .. request_id, integer(order.at))
return accepted(events)
