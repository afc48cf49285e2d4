-- recall: what the shop's recent memory holds for `request:<id>`, `order:<id>` or `hold:<id>`, and for a second such
-- field; nil when nothing. The older half is empty until the memory has turned for the first time.
-- @include state
local function recall(first, second)
  local current, previous = recent_0, recent_1
  if bucket == "1" then
    current, previous = recent_1, recent_0
  end
  local found = redis.call("HMGET", current, first, second or first)
  if turned and not (found[1] and found[2]) then
    local older = redis.call("HMGET", previous, first, second or first)
    found = { found[1] or older[1], found[2] or older[2] }
  end
  return found[1] or nil, second and found[2] or nil
end
