-- read_totals: what the shop has sold so far: paid orders, their items and what they earned.
local function read_totals()
  local fields = redis.call("HMGET", stats, "orders", "items", "revenue")
  return { orders = (fields[1] or 0) + 0, items = (fields[2] or 0) + 0, revenue = (fields[3] or 0) + 0 }
end
