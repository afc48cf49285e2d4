-- demand: what a list of lines asks for, summed per SKU (two lines of one SKU must not each pass the check alone), in the
-- order in which the SKUs first appear. All lines of one SKU in a cart have one price.
local function demand(lines)
  if #lines == 1 then
    return lines
  end
  local asked, by_sku = {}, {}
  for index = 1, #lines do
    local line = lines[index]
    local sum = by_sku[line.sku]
    if sum then
      sum.quantity = sum.quantity + line.quantity
    else
      sum = { sku = line.sku, quantity = line.quantity, price = line.price }
      by_sku[line.sku] = sum
      asked[#asked + 1] = sum
    end
  end
  return asked
end
