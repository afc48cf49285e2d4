-- end_order: takes an order that was paid or cancelled out of those that wait; it is read from Postgres from now on.
-- @include leave_due, remember_order, integer
local function end_order(item)
  if item.expire then
    leave_due(item)
  end
  redis.call("HDEL", orders, item.id .. ":user", item.id .. ":expire", item.id .. ":created", item.id .. ":lines", item.id .. ":terms")
  redis.call("HINCRBY", stats, "pending", integer(-item.amount))
  remember_order(item)
end
