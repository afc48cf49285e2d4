-- commit: appends one entry to the log and moves the shop's head. It is the first write of every operation: when XADD
-- fails nothing has happened, and nothing after it may fail. `private` is what belongs in Postgres but not in events.
-- @include state, integer
local function commit(id, entry_call, events, private)
  position = position + 1
  previous_commit_id, last_commit_id = not private and last_commit_id, id
  local at, time = integer(position), integer(now)
  if private then
    redis.call("XADD", log, at, "v", "1", "commit", id, "epoch", epoch, "time", time, "call", entry_call, "events", events,
      "private", private)
  else
    redis.call("XADD", log, at, "v", "1", "commit", id, "epoch", epoch, "time", time, "call", entry_call, "events", events)
  end
  redis.call("HSET", meta, "position", at, "commit_id", id, "time", time)
end
