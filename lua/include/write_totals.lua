-- write_totals: stores the shop's totals with one more order in them.
-- @include integer
local function write_totals(totals, item_count, earned)
  redis.call("HSET", stats, "orders", integer(totals.orders + 1), "items", integer(totals.items + item_count),
    "revenue", integer(totals.revenue + earned))
end
