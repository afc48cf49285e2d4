-- read_user: a user's wallet, counts and profile, read once per run; nil when there is no such user (nobody has the empty id).
-- No balance is a balance of 0.
-- @include read_purchases
local read_users = {}
local function read_user(id)
  local found = read_users[id]
  if found ~= nil then
    return found or nil
  end
  local fields = redis.call("HMGET", users, id .. ":balance", id .. ":credits", id .. ":purchases", id .. ":profile")
  if not fields[4] then
    read_users[id] = false
    return nil
  end
  local created_at, created_ms, code, referred_by, referral_count = string.match(fields[4], "^(%d+) (%d+) (%S*) (%S*) (%d+)$")
  found = {
    id = id,
    balance = (fields[1] or 0) + 0,
    credits = fields[2] + 0,
    created_at = created_at,
    created_ms = created_ms + 0,
    referral_code = code,
    referred_by = referred_by,
    referral_count = referral_count + 0,
  }
  found.order_count, found.lifetime_value = read_purchases(fields[3])
  read_users[id] = found
  return found
end
