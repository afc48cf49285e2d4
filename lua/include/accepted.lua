-- accepted: the reply of a commit that was just made.
-- @include state
local function accepted(events)
  return { "OK", position, last_commit_id, now, events }
end
