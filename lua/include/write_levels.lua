-- write_levels: stores the levels of one product after a commit changed them.
local function write_levels(item)
  local sku = item.sku
  redis.call("HSET", stock, sku .. ":available", item.available, sku .. ":held", item.held, sku .. ":sold", item.sold)
end
