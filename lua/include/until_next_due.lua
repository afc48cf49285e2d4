-- until_next_due: how long it is worth waiting for held units, in ms: until the shop's next hold is due, 1 s to 60 s.
-- @include state
local function until_next_due()
  local next_due = redis.call("ZRANGE", due, 0, 0, "WITHSCORES")
  return math.min(math.max(tonumber(next_due[2] or now) - now, 1000), 60000)
end
