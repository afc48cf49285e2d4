-- is_plain_sale: whether a cart is one line of a product that is on sale without limit or window, and nothing speaks against
-- it. Most carts are, and are spared check_cart; a cart that this does not let through is not refused for it.
-- @include read_product, read_buyer
local function is_plain_sale(lines, user, needs_user)
  local line = lines[1]
  local item = #lines == 1 and read_product(line.sku)
  return item and item.plain and item.available >= line.quantity and (not line.expected or line.expected == item.price)
    and (user ~= "" and read_buyer(user) ~= nil or user == "" and not needs_user)
end
