#!lua
-- CancelScheduledChange: takes back the change of tier that waits for the period's end.
--
-- KEYS  meta, log, users, tiers, renewals, stats, recent_0, recent_1
-- ARGV  (call), user_id
-- OK      events
-- REFUSES USER_NOT_FOUND, NO_SCHEDULED_CHANGE
-- AGAIN   when several of the user's periods were due
-- EVENTS  tier_change_cancelled
-- @include begin, read_user, read_subscription, renew_due, subscription_json, write_subscription, commit, accepted, remember, refuse, bad_arguments

if not user_id or user_id == "" then
  return bad_arguments("user_id")
end
local reply = begin()
if reply then
  return reply
end
local user = read_user(user_id)
if not user then
  return refuse("USER_NOT_FOUND", { "user_id", user_id })
end
reply = renew_due(user)
if reply then
  return reply
end
local sub = read_subscription(user)
if sub.scheduled == "" then
  return refuse("NO_SCHEDULED_CHANGE", { "user_id", user_id })
end

-- From here on the call must succeed.
local at = position + 1
local scheduled_tier = sub.scheduled
sub.scheduled, sub.position, sub.updated_ms = "", at, now
local events = string.format('[{"tier_change_cancelled":{"subscription":%s,"scheduled_tier":"%s"}}]', subscription_json(user), scheduled_tier)

commit(commit_id, call, events)
write_subscription(user)
remember("request:" .. request_id, at)
return accepted(events)
