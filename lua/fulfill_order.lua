#!lua
-- FulfillOrder: notes that a paid order was delivered.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), as_of_position, record (see find_order), order_id, reference_json
-- OK      events
-- REFUSES ORDER_NOT_FOUND, ORDER_STATE_INVALID   (an order that was fulfilled answers with that commit)
-- EVENTS  order_fulfilled
-- @include begin, is_record, find_order, refuse_state, change_order, order_json, remember_order, commit, accepted, remember, integer

if order_id == "" or not is_record() or (reference_json or "") == "" then
  return bad_arguments("order_id, as_of_position, record or reference_json")
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
if order.fulfilled_at > 0 then
  return answer_from_log("EXISTS", integer(order.fulfilled_at))
end
if order.state ~= 2 then
  return refuse_state(order)
end

-- From here on the call must succeed.
change_order(order, 3)
order.fulfilled_at = order.at
order.fulfill_reference = reference_json
local events = '[{"order_fulfilled":{"order":' .. order_json(order) .. "}}]"

commit(commit_id, call, events)
remember_order(order)
remember("request:" .. request_id, integer(order.at))
return accepted(events)
