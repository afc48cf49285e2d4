-- leave_due: takes a hold or an order that ends out of what will be due.
-- @include demand, due_member
local function leave_due(item)
  for _, line in ipairs(demand(item.lines)) do
    redis.call("ZREM", due_skus, due_member(line.sku, item.expire, item.due_id))
  end
  redis.call("ZREM", due, item.due_id)
end
