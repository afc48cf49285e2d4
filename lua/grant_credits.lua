#!lua
-- GrantCredits: gives a user credits.
--
-- KEYS  meta, log, users, recent_0, recent_1
-- ARGV  (call), user_id, granted_credits, reason_json
-- OK      events
-- REFUSES USER_NOT_FOUND, BALANCE_LIMIT
-- EVENTS  credits_granted
-- @include begin, read_user, read_user_tier, user_json, commit, accepted, remember, refuse, integer

if user_id == "" or not is_integer(granted_credits, 1, 9007199254740991) or not reason_json or reason_json == "" then
  return bad_arguments("user_id, granted_credits or reason_json")
end
local reply = begin()
if reply then
  return reply
end
local grantee = read_user(user_id)
if not grantee then
  return refuse("USER_NOT_FOUND", { "user_id", user_id })
end
local granted = tonumber(granted_credits)
if grantee.credits + granted > 9007199254740991 then
  return refuse("BALANCE_LIMIT", { "user_id", user_id, "credits", integer(grantee.credits), "granted_credits", granted_credits })
end

-- From here on the call must succeed.
local at = position + 1
grantee.credits = grantee.credits + granted
grantee.updated_ms = now
local events = string.format('[{"credits_granted":{"user":%s,"credits":%d,"reason":%s}}]', user_json(read_user_tier(grantee), at), granted, reason_json)

commit(commit_id, call, events)
redis.call("HSET", users, user_id .. ":credits", integer(grantee.credits))
remember("request:" .. request_id, at)
return accepted(events)
