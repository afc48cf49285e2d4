-- units_json: units of SKUs as they stand in events.
local function units_json(lines)
  local written = {}
  for index, line in ipairs(lines) do
    written[index] = string.format('{"sku":"%s","quantity":%d}', line.sku, line.quantity)
  end
  return "[" .. table.concat(written, ",") .. "]"
end
