-- refuse_state: the refusal of what an order's state does not allow.
-- @include refuse
local function refuse_state(order)
  local names = { "PENDING_PAYMENT", "PAID", "FULFILLED", "CANCELLED", "REFUNDED" }
  return refuse("ORDER_STATE_INVALID", { "order_id", order.id, "state", names[order.state] })
end
