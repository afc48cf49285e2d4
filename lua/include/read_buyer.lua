-- read_buyer: what orders need of a user: wallet, orders placed, what was paid less what was refunded. Read once per run; nil
-- when there is no such user (nobody has the empty id).
local buyers = {}
local function read_buyer(id)
  local found = buyers[id]
  if found ~= nil then
    return found or nil
  end
  local fields = redis.call("HMGET", users, id .. ":balance", id .. ":orders", id .. ":lifetime")
  if not fields[1] then
    buyers[id] = false
    return nil
  end
  found = { id = id, balance = fields[1] + 0, order_count = fields[2] + 0, lifetime_value = fields[3] + 0 }
  buyers[id] = found
  return found
end
