-- purchases_text: the field `<id>:purchases` of a user, "<order_count> <lifetime_value>".
local function purchases_text(order_count, lifetime_value)
  return string.format("%.0f %.0f", order_count, lifetime_value)
end
