-- read_hold: an open hold with its lines; nil when it is not open. `due_id` is what it is called in `due` and `due_skus`.
-- @include unpack_lines
local function read_hold(id)
  local fields = redis.call("HMGET", holds, id .. ":user", id .. ":expire", id .. ":created", id .. ":lines")
  if not fields[1] then
    return nil
  end
  local created_at, created_ms = string.match(fields[3], "^(%d+) (%d+)$")
  return {
    id = id,
    due_id = id,
    user = fields[1],
    expire = tonumber(fields[2]),
    created_at = created_at,
    created_ms = tonumber(created_ms),
    lines = unpack_lines(fields[4]),
  }
end
