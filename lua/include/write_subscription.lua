-- write_subscription: stores a user's credits and subscription after a commit changed them.
-- @include read_subscription, integer
local function write_subscription(user)
  local sub = user.subscription
  redis.call("HSET", users, user.id .. ":credits", integer(user.credits), user.id .. ":sub",
    string.format("%s %d %d %d %s %d %d", sub.tier, sub.price, sub.period_start, sub.period_end, sub.scheduled, sub.position, sub.updated_ms))
  if is_renewed(sub) then
    redis.call("ZADD", renewals, integer(sub.period_end), user.id)
  else
    redis.call("ZREM", renewals, user.id)
  end
end
