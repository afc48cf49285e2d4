-- read_hold: an open hold with its lines; nil when it is not open. Lines are kept as "<sku> <quantity> <price_minor>", one per
-- caller's line, separated by commas.
local function read_hold(id)
  local fields = redis.call("HMGET", holds, id .. ":user", id .. ":expire", id .. ":created", id .. ":lines")
  if not fields[1] then
    return nil
  end
  local created_at, created_ms = string.match(fields[3], "^(%d+) (%d+)$")
  local found = {
    id = id,
    user = fields[1],
    expire = tonumber(fields[2]),
    created_at = created_at,
    created_ms = tonumber(created_ms),
    lines = {},
    packed = fields[4],
  }
  for sku, quantity, price in string.gmatch(fields[4], "([^ ,]+) (%d+) (%d+)") do
    found.lines[#found.lines + 1] = { sku = sku, quantity = tonumber(quantity), price = tonumber(price) }
  end
  return found
end
