-- refuse: the reply of a refusal. `details` is a flat list of names and values; `retry_ms` is when waiting helps (or nil);
-- `violations` is one flat list per failing SKU, its reason first.
-- @include state
local function refuse(reason, details, retry_ms, violations)
  return { "REFUSED", position, last_commit_id, reason, details or {}, retry_ms or -1, violations or {} }
end
