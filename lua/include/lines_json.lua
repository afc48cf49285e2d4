-- lines_json: the lines of a hold or an order as they stand in events.
local function lines_json(lines)
  if #lines == 1 then
    return string.format('[{"sku":"%s","quantity":%d,"price_minor":%d}]', lines[1].sku, lines[1].quantity, lines[1].price)
  end
  local written = {}
  for index = 1, #lines do
    local line = lines[index]
    written[index] = string.format('{"sku":"%s","quantity":%d,"price_minor":%d}', line.sku, line.quantity, line.price)
  end
  return "[" .. table.concat(written, ",") .. "]"
end
