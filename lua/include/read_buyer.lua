-- read_buyer: what orders need of a user: wallet, orders placed, what was paid less what was refunded. Read once per run; nil
-- when there is no such user (nobody has the empty id). No balance is a balance of 0.
-- @include read_purchases
local buyers = {}
local function read_buyer(id)
  local found = buyers[id]
  if found ~= nil then
    return found or nil
  end
  local fields = redis.call("HMGET", users, id .. ":balance", id .. ":purchases", id .. ":profile")
  if not fields[3] then
    buyers[id] = false
    return nil
  end
  found = { id = id, balance = (fields[1] or 0) + 0 }
  found.order_count, found.lifetime_value = read_purchases(fields[2])
  buyers[id] = found
  return found
end
