-- give_back: returns the held units of a hold to what is available, in memory; returns the stocks of the event.
-- @include demand, read_product, stock_json
local function give_back(item)
  local stocks = {}
  for index, line in ipairs(demand(item.lines)) do
    local found = read_product(line.sku)
    found.available = found.available + line.quantity
    found.held = found.held - line.quantity
    stocks[index] = stock_json(found)
  end
  return "[" .. table.concat(stocks, ",") .. "]"
end
