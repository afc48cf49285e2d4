-- change_order: gives an order, in memory, the state it has after the commit that is about to be made.
-- @include state
local function change_order(order, order_state)
  order.state = order_state
  order.updated_ms = now
  order.at = position + 1
end
