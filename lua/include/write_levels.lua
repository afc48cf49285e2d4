-- write_levels: stores the levels of one product after a commit changed them, and what was ever sold of it.
-- @include integer
local function write_levels(item)
  local sku = item.sku
  local available, held, sold = integer(item.available), integer(item.held), integer(item.sold)
  if item.sales then
    redis.call("HSET", stock, sku .. ":available", available, sku .. ":held", held, sku .. ":sold", sold, sku .. ":sales", item.sales)
  else
    redis.call("HSET", stock, sku .. ":available", available, sku .. ":held", held, sku .. ":sold", sold)
  end
end
