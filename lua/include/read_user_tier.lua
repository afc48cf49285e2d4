-- read_user_tier: adds to a user the tier, which only a User in an event needs, and returns the user.
local function read_user_tier(user)
  local subscription = redis.call("HGET", users, user.id .. ":sub")
  user.tier = subscription and string.match(subscription, "^%S+") or "free"
  return user
end
