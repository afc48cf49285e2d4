#!lua
-- ConfirmOrder: makes an order paid that waits for its payment: the caller charged it (external), or the payment worker did
-- (gateway). Its held units are sold.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), as_of_position, record (see find_order), order_id, payment_reference_json, charge_id_json, by_worker ("1" or "0")
-- OK      events
-- REFUSES ORDER_NOT_FOUND, ORDER_STATE_INVALID   (an order that was confirmed answers with that commit)
-- EVENTS  order_confirmed
-- @include begin, is_record, find_order, refuse_state, change_order, order_json, read_product, read_buyer, purchases_text, count_sale, demand, stock_json, write_levels, read_totals, write_totals, end_order, commit, accepted, remember, integer

if order_id == "" or not is_record() or payment_reference_json == "" or charge_id_json == "" or (by_worker ~= "0" and by_worker ~= "1") then
  return bad_arguments("order_id, as_of_position, record, payment_reference_json, charge_id_json or by_worker")
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
-- Each payment method has one party that says whether it was paid.
local theirs = order.method == (by_worker == "1" and 4 or 2)
if theirs and order.confirmed_at > 0 then
  return answer_from_log("EXISTS", integer(order.confirmed_at))
end
if not theirs or order.state ~= 1 then
  return refuse_state(order, theirs)
end
local buyer = read_buyer(order.user)
local totals = read_totals()

-- From here on the call must succeed.
local asked, stocks = demand(order.lines), {}
for index, line in ipairs(asked) do
  local item = read_product(line.sku)
  item.held = item.held - line.quantity
  item.sold = item.sold + line.quantity
  count_sale(item, line.quantity, line.price * line.quantity)
  stocks[index] = stock_json(item)
end
change_order(order, 2)
order.confirmed_at = order.at
order.payment_reference, order.charge_id = payment_reference_json, charge_id_json
local about_buyer = buyer and ',"lifetime_value_minor":' .. integer(buyer.lifetime_value + order.amount) or ""
local events = string.format('[{"order_confirmed":{"order":%s,"stocks":[%s]%s}}]', order_json(order), table.concat(stocks, ","), about_buyer)

commit(commit_id, call, events)
for _, line in ipairs(asked) do
  write_levels(read_product(line.sku))
end
if buyer then
  redis.call("HSET", users, order.user .. ":purchases", purchases_text(buyer.order_count, buyer.lifetime_value + order.amount))
end
write_totals(totals, order.item_count, order.amount)
end_order(order)
remember("request:" .. request_id, integer(order.at))
return accepted(events)
