-- read_totals: what the shop has sold so far: paid orders, their items and what they earned; and what orders that wait for
-- their payment will earn: it is reserved, so that a payment that was made can always be booked.
local function read_totals()
  local fields = redis.call("HMGET", stats, "orders", "items", "revenue", "pending")
  return {
    orders = tonumber(fields[1] or 0), items = tonumber(fields[2] or 0), revenue = tonumber(fields[3] or 0), pending = tonumber(fields[4] or 0),
  }
end
