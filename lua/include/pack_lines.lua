-- pack_lines: the lines of a hold or an order as an open one keeps them.
local function pack_lines(lines)
  local packed = {}
  for index, line in ipairs(lines) do
    packed[index] = string.format("%s %d %d", line.sku, line.quantity, line.price)
  end
  return table.concat(packed, ",")
end
