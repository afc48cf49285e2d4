-- write_levels: stores the levels of one product after a commit changed them.
-- @include integer
local function write_levels(item)
  local sku = item.sku
  redis.call("HSET", stock, sku .. ":available", integer(item.available), sku .. ":held", integer(item.held), sku .. ":sold", integer(item.sold))
end
