-- unpack_lines: the lines of an open hold or order, kept as "<sku> <quantity> <price_minor>", one per caller's line, separated
-- by commas.
local function unpack_lines(packed)
  local lines = {}
  for sku, quantity, price in string.gmatch(packed, "([^ ,]+) (%d+) (%d+)") do
    lines[#lines + 1] = { sku = sku, quantity = tonumber(quantity), price = tonumber(price) }
  end
  return lines
end
