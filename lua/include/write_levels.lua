-- write_levels: stores the levels of one product after a commit changed them.
-- @include integer
local function write_levels(item)
  redis.call("HSET", stock, item.sku .. ":available", integer(item.available), item.sku .. ":held", integer(item.held),
    item.sku .. ":sold", integer(item.sold))
end
