-- count_sale: adds a paid order to what was ever sold of one SKU, in memory; write_levels stores it.
local function count_sale(item, quantity, earned)
  local orders_before, units, revenue = string.match(item.sales or "0 0 0", "^(%d+) (%d+) (%d+)$")
  item.sales = string.format("%d %d %d", orders_before + 1, units + quantity, revenue + earned)
end
