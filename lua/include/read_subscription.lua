-- read_subscription: a user's subscription as of now, read once per run. Users who never changed their tier have been on free
-- since they were created. A period that costs nothing, with nothing scheduled, rolls on without a commit.
-- @include state
local period_ms = 2592000000
local function is_renewed(sub)
  return sub.price > 0 or sub.scheduled ~= ""
end

local function read_subscription(user)
  if user.subscription then
    return user.subscription
  end
  local sub = { tier = "free", price = 0, period_start = user.created_ms, scheduled = "", position = tonumber(user.created_at), updated_ms = user.created_ms }
  -- "<tier> <price> <period_start ms> <period_end ms> <scheduled_tier> <position> <update ms>"
  local packed = redis.call("HGET", users, user.id .. ":sub")
  if packed then
    local tier, price, period_start, scheduled, at, updated_ms = string.match(packed, "^(%S+) (%d+) (%d+) %d+ (%S*) (%d+) (%d+)$")
    sub.tier, sub.price, sub.period_start, sub.scheduled = tier, tonumber(price), tonumber(period_start), scheduled
    sub.position, sub.updated_ms = tonumber(at), tonumber(updated_ms)
  end
  if not is_renewed(sub) then
    sub.period_start = sub.period_start + math.floor((now - sub.period_start) / period_ms) * period_ms
  end
  sub.period_end = sub.period_start + period_ms
  user.subscription = sub
  return sub
end
