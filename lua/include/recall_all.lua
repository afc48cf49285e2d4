-- recall_all: what the shop's recent memory holds for each of some fields, newest first: false where nothing.
-- @include state
local function recall_all(fields)
  if #fields == 0 then
    return {}
  end
  local current, previous = recent_0, recent_1
  if bucket == "1" then
    current, previous = recent_1, recent_0
  end
  local found, older = redis.call("HMGET", current, unpack(fields)), redis.call("HMGET", previous, unpack(fields))
  for index = 1, #fields do
    found[index] = found[index] or older[index]
  end
  return found
end
