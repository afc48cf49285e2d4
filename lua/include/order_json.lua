-- order_json: an Order as it stands in events; what is empty or 0 is left out where the contract's default says the same.
-- `create_position`, `confirm_position`, `fulfill_position`, `refund_count` and `restocked` are for Postgres and for what is asked
-- of the order later. The free texts of an order are kept as JSON. States: 1 waits for its payment, 2 paid, 3 fulfilled, 4 cancelled, 5 refunded.
-- @include lines_json, units_json
local order_texts = { "payment_reference", "charge_id", "fulfill_reference", "cancel_reason" }

local function order_json(order)
  local more = {}
  for _, name in ipairs(order_texts) do
    if order[name] and order[name] ~= '""' then
      more[#more + 1] = string.format(',"%s":%s', name, order[name])
    end
  end
  -- Only an order that waits for its payment has a time to wait until.
  if order.state == 1 and order.expire then
    more[#more + 1] = string.format(',"expire_time":%d', order.expire)
  end
  if order.confirmed_at > 0 then
    more[#more + 1] = string.format(',"confirm_position":%d', order.confirmed_at)
  end
  if order.fulfilled_at > 0 then
    more[#more + 1] = string.format(',"fulfill_position":%d', order.fulfilled_at)
  end
  if order.refund_count > 0 then
    more[#more + 1] = string.format(',"refund_count":%d', order.refund_count)
  end
  if #order.restocked > 0 then
    more[#more + 1] = ',"restocked":' .. units_json(order.restocked)
  end
  return string.format(
    '{"order_id":"%s","user_id":"%s","lines":%s,"item_count":%d,"amount_minor":%d,"refunded_minor":%d,"state":%d,"payment_method":%d,'
      .. '"hold_id":"%s","create_time":%d,"update_time":%d,"create_position":%s,"position":%d%s}',
    order.id, order.user, lines_json(order.lines), order.item_count, order.amount, order.refunded, order.state, order.method, order.hold,
    order.created_ms, order.updated_ms, order.created_at, order.at, table.concat(more))
end
