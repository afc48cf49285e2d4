-- read_profile: adds to a user what only a User in an event needs, referral and tier, and returns the user.
local function read_profile(user)
  local fields = redis.call("HMGET", users, user.id .. ":referral", user.id .. ":sub")
  -- "<code> <referred_by> <referral_count>"; users from before there were referrals have no code.
  local code, referred_by, referral_count = string.match(fields[1] or "  0", "^(%S*) (%S*) (%d+)$")
  user.referral_code, user.referred_by, user.referral_count = code, referred_by, tonumber(referral_count)
  user.tier = fields[2] and string.match(fields[2], "^%S+") or "free"
  return user
end
