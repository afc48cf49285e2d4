-- read_totals: what the shop has sold so far: paid orders, their items and what they earned.
local function read_totals()
  local fields = redis.call("HMGET", stats, "orders", "items", "revenue")
  return { orders = tonumber(fields[1] or 0), items = tonumber(fields[2] or 0), revenue = tonumber(fields[3] or 0) }
end
