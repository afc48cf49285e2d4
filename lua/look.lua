#!lua flags=allow-oom
-- Look: the first Redis step of OPEN: adopt the shop as it is, keep it under another epoch, or seal it for a rebuild.
-- It writes little, and without it no call that frees memory would come to its script: it runs when Redis is full.
--
-- KEYS  meta, log
-- ARGV  head_position, head_commit_id, token, durable_epoch, force ("1" = rebuild in any case)
-- OK      ADOPT | KEEP epoch, token, next_epoch | SEALED epoch, head_in_log, flushed, position, was_whole (1 = the state was that
--         after the log's last entry, as far as anybody knows)
-- @include is_integer, bad_arguments, whole

if not is_integer(head_position, 1, 9007199254740991) or token == "" or not is_integer(durable_epoch, 0, 9007199254740991) then
  return bad_arguments("head_position, token or durable_epoch")
end
local at = redis.call("HMGET", meta, "epoch", "token", "next_epoch", "loaded", "flushed", "position")
local entry = redis.call("XRANGE", log, head_position, head_position)[1]
local head_in_log = entry ~= nil and entry[2][4] == head_commit_id
if at[4] == whole and head_in_log and force ~= "1" then
  if at[1] == durable_epoch then
    return { "ADOPT" }
  end
  return { "KEEP", at[1] or "", at[2] or "", at[3] or "" }
end
local next_epoch = string.format("%d", math.max(tonumber(durable_epoch), tonumber(at[1] or 0), tonumber(at[3] or 0)) + 1)
redis.call("HDEL", meta, "epoch", "ready_time")
redis.call("HSET", meta, "token", token, "next_epoch", next_epoch, "loaded", "0")
local was_whole = at[4] == whole and at[1] and force ~= "1"
return { "SEALED", next_epoch, head_in_log and 1 or 0, tonumber(at[5] or 0), tonumber(at[6] or 0), was_whole and 1 or 0 }
