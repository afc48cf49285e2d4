-- begin: asserts what every call brings, opens the shop and answers a known request id.
-- Returns the reply to give at once, or nil and what the recent memory holds of `resource` (`order:<id>`; nil = none).
-- @include open_meta, is_integer, bad_arguments, recall, answer_from_log
local function begin(resource)
  if #commit_id ~= 36 or request_id == "" or call == "" then
    return bad_arguments("commit_id, request_id or call")
  end
  if not is_integer(oldest_id_ms, 0, 9007199254740991) or not is_integer(memory_count, 1, 9007199254740991)
    or (clock_ms ~= "" and not is_integer(clock_ms, 0, 9007199254740991)) then
    return bad_arguments("oldest_id_ms, memory_count or clock_ms")
  end
  local mismatch = open_meta()
  if mismatch then
    return mismatch
  end
  local known_at, resource_at = recall("request:" .. request_id, resource)
  if known_at then
    return answer_from_log("REPLAYED", known_at)
  end
  -- An id older than the memory may be known to Postgres only; one from the future says nothing about its age. An id may be a
  -- minute ahead of the server, and the server four minutes ahead of Redis: what is let go is ten minutes old, so ids that are
  -- new are looked up for neither.
  local made_ms = oldest_id_ms + 0
  if forgotten > 0 and looked_up ~= "1" and (made_ms <= forgotten + 300000 or made_ms > now + 300000) then
    return { "LOOK_UP", position, last_commit_id }
  end
  return nil, resource_at
end
