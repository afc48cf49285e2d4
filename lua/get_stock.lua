#!lua flags=no-writes
-- GetStock, BatchGetStock: the levels of SKUs, after every expiry that is due.
--
-- KEYS  meta, stock, due, due_skus
-- ARGV  epoch, clock_ms ("" = Redis' clock), then per SKU: sku
-- OK      per SKU: available, held, sold, price, as texts: clients round integer replies near 2^53
-- DUE     when a hold of one of them is due: its expiry has to be committed first
-- REFUSES PRODUCT_NOT_FOUND
-- @include open_meta, read_product, refuse, integer

local reply = open_meta()
if reply then
  return reply
end
local any_due = #redis.call("ZRANGEBYSCORE", due, "-inf", integer(now), "LIMIT", 0, 1) > 0
local levels = {}
for index = rest, #ARGV do
  local sku = ARGV[index]
  local item = read_product(sku)
  if not item then
    return refuse("PRODUCT_NOT_FOUND", { "sku", sku })
  end
  if any_due and #redis.call("ZRANGEBYLEX", due_skus, "[" .. sku .. ":", "(" .. sku .. ":" .. string.format("%016d", now + 1), "LIMIT", 0, 1) > 0 then
    return { "DUE" }
  end
  levels[#levels + 1] = { sku, integer(item.available), integer(item.held), integer(item.sold), integer(item.price) }
end
return { "OK", position, last_commit_id, now, levels }
