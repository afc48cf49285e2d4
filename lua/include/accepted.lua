-- accepted: the reply of a commit that was just made, and which one is before it: a flush that knows that one need not look
-- into the log for this one. False: the caller does not know all of the entry.
-- @include state
local function accepted(events)
  return { "OK", position, last_commit_id, now, events, previous_commit_id }
end
