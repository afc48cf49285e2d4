-- read_user: a user's wallet and counts, read once per run; nil when there is no such user (nobody has the empty id).
local read_users = {}
local function read_user(id)
  local found = read_users[id]
  if found ~= nil then
    return found or nil
  end
  local fields = redis.call("HMGET", users, id .. ":balance", id .. ":credits", id .. ":orders", id .. ":lifetime", id .. ":created")
  if not fields[5] then
    read_users[id] = false
    return nil
  end
  local created_at, created_ms = string.match(fields[5], "^(%d+) (%d+)$")
  found = {
    id = id,
    balance = fields[1] + 0,
    credits = fields[2] + 0,
    order_count = fields[3] + 0,
    lifetime_value = fields[4] + 0,
    created_at = created_at,
    created_ms = created_ms + 0,
  }
  read_users[id] = found
  return found
end
