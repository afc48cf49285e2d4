-- recall: what the shop's recent memory holds for `request:<id>`, `order:<id>` or `hold:<id>`; nil when nothing.
-- @include state
local function recall(field)
  local current, previous = recent_0, recent_1
  if bucket == "1" then
    current, previous = recent_1, recent_0
  end
  return redis.call("HGET", current, field) or redis.call("HGET", previous, field) or nil
end
