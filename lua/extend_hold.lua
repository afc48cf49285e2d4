#!lua
-- ExtendHold: lets an open hold live until now + hold_ms, never shorter than before and never past 24 hours of life.
--
-- KEYS  meta, log, stock, holds, due, due_skus, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), hold_id, hold_ms
-- OK      events
-- REFUSES HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_RELEASED, HOLD_COMMITTED, HOLD_LIMIT_REACHED
-- EVENTS  hold_extended
-- @include begin, expire_due, ended_hold, read_hold, hold_json, leave_due, enter_due, commit, accepted, remember, integer

if hold_id == "" or not is_integer(hold_ms, 1, 86400000) then
  return bad_arguments("hold_id or hold_ms")
end
local reply = begin()
if reply then
  return reply
end
local item = read_hold(hold_id)
reply = item and expire_due({}, item)
if reply then
  return reply
end
item = item and read_hold(hold_id)
if not item then
  return ended_hold(hold_id, false)
end
local last_expire = item.created_ms + 86400000
local expire_at = math.max(item.expire, now + tonumber(hold_ms))
if expire_at > last_expire then
  return refuse("HOLD_LIMIT_REACHED", { "hold_id", hold_id, "last_expire_ms", integer(last_expire) })
end

-- From here on the call must succeed.
local at = position + 1
local before = item.expire
item.expire = expire_at
local events = '[{"hold_extended":{"hold":' .. hold_json(item, 1, "", at) .. "}}]"

commit(commit_id, call, events)
leave_due({ due_id = hold_id, lines = item.lines, expire = before })
enter_due(item)
redis.call("HSET", holds, hold_id .. ":expire", integer(expire_at))
remember("request:" .. request_id, at)
return accepted(events)
