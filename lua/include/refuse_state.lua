-- refuse_state: the refusal of what an order's state does not allow; `theirs` is false when it is not allowed to whoever asks,
-- because of how the order is paid.
-- @include refuse
local function refuse_state(order, theirs)
  local states = { "PENDING_PAYMENT", "PAID", "FULFILLED", "CANCELLED", "REFUNDED" }
  local methods = { "WALLET", "EXTERNAL", "NONE", "GATEWAY" }
  local details = { "order_id", order.id, "state", states[order.state] }
  local function add(name, value)
    details[#details + 1] = name
    details[#details + 1] = value
  end
  local cancel_reason = order.cancel_reason and cjson.decode(order.cancel_reason) or ""
  if cancel_reason ~= "" then
    add("cancel_reason", cancel_reason)
  end
  if theirs == false then
    add("payment_method", methods[order.method])
  end
  return refuse("ORDER_STATE_INVALID", details)
end
