#!lua
-- SettleRefund: notes that the payment gateway has given a refund back to the payer. The order itself does not change: its
-- refund was decided by RefundOrder. The payment worker alone calls this, once per refund, with a request id that says so.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), as_of_position, record (see find_order), order_id, refund_number (1 = the order's first), amount_minor, refund_id_json
-- OK      events
-- REFUSES ORDER_NOT_FOUND, ORDER_STATE_INVALID
-- EVENTS  refund_settled
-- @include begin, is_record, find_order, refuse_state, order_json, commit, accepted, remember, integer

if order_id == "" or not is_record() or not is_integer(refund_number, 1, 9007199254740991) or not is_integer(amount_minor, 0, 9007199254740991)
  or (refund_id_json or "") == "" then
  return bad_arguments("order_id, as_of_position, record, refund_number, amount_minor or refund_id_json")
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
if order.method ~= 4 or tonumber(refund_number) > order.refund_count then
  return refuse_state(order)
end

-- From here on the call must succeed.
local at = position + 1
local events = string.format('[{"refund_settled":{"order":%s,"amount_minor":%s,"refund_number":%s,"refund_id":%s}}]', order_json(order),
  amount_minor, refund_number, refund_id_json)

commit(commit_id, call, events)
remember("request:" .. request_id, integer(at))
return accepted(events)
