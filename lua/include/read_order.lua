-- read_order: an order that waits for its payment, with its lines; nil when it does not wait. `due_id` is what it is called
-- in `due` and `due_skus`: no hold's id has a "/". `expire` is nil where only the payment worker ends it.
-- @include unpack_lines
local function read_order(id)
  local fields = redis.call("HMGET", orders, id .. ":user", id .. ":expire", id .. ":created", id .. ":lines", id .. ":terms")
  if not fields[1] then
    return nil
  end
  local created_at, created_ms = string.match(fields[3], "^(%d+) (%d+)$")
  local method, hold = string.match(fields[5], "^(%d) (.*)$")
  local found = {
    id = id,
    due_id = "order/" .. id,
    user = fields[1],
    expire = tonumber(fields[2]),
    created_at = created_at,
    created_ms = tonumber(created_ms),
    lines = unpack_lines(fields[4]),
    method = tonumber(method),
    hold = hold,
    state = 1,
    at = tonumber(created_at),
    confirmed_at = 0,
    fulfilled_at = 0,
    item_count = 0,
    amount = 0,
    refunded = 0,
    refund_count = 0,
    restocked = {},
  }
  for _, line in ipairs(found.lines) do
    found.item_count = found.item_count + line.quantity
    found.amount = found.amount + line.quantity * line.price
  end
  return found
end
