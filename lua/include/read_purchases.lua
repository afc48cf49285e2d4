-- read_purchases: takes the field `<id>:purchases` of a user apart: orders placed, what was paid less what was refunded. There is
-- none before the first order.
local function read_purchases(field)
  if not field then
    return 0, 0
  end
  local order_count, lifetime_value = string.match(field, "^(%d+) (%d+)$")
  return order_count + 0, lifetime_value + 0
end
