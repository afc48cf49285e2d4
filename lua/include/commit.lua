-- commit: appends one entry to the log and moves the shop's head. It is the first write of every operation: when XADD
-- fails nothing has happened, and nothing after it may fail. `private` is what belongs in Postgres but not in events.
-- Numbers go to redis.call as they are: it writes safe integers exactly, which saves six string.format a commit.
-- @include state
local function commit(id, entry_call, events, private)
  position = position + 1
  last_commit_id = id
  if private then
    redis.call("XADD", log, position, "v", "1", "commit", id, "epoch", epoch, "time", now, "call", entry_call, "events", events,
      "private", private)
  else
    redis.call("XADD", log, position, "v", "1", "commit", id, "epoch", epoch, "time", now, "call", entry_call, "events", events)
  end
  redis.call("HSET", meta, "position", position, "commit_id", id, "time", now)
end
