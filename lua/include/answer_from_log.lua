-- answer_from_log: the reply that repeats the commit at a position; without the entry when the log no longer holds it
-- (it is durable then, and Postgres has it).
-- @include state
local function answer_from_log(kind, at)
  local entries = redis.call("XRANGE", log, at, at)
  return { kind, position, last_commit_id, tonumber(at), entries[1] and entries[1][2] or false }
end
