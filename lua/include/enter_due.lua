-- enter_due: writes when a hold or an order will be due.
-- @include demand, due_member, integer
local function enter_due(item)
  for _, line in ipairs(demand(item.lines)) do
    redis.call("ZADD", due_skus, "0", due_member(line.sku, item.expire, item.due_id))
  end
  redis.call("ZADD", due, integer(item.expire), item.due_id)
end
