#!lua flags=no-writes
-- GetSubscription: a user's subscription as of now, with the limits of its tier.
--
-- KEYS  meta, users, tiers
-- ARGV  epoch, clock_ms ("" = Redis' clock), user_id
-- OK      subscription, as JSON
-- DUE     when a period of the user ended: its renewal has to be committed first
-- REFUSES USER_NOT_FOUND
-- @include open_meta, read_user, read_subscription, subscription_json, refuse

local reply = open_meta()
if reply then
  return reply
end
local user = read_user(user_id)
if not user then
  return refuse("USER_NOT_FOUND", { "user_id", user_id })
end
local sub = read_subscription(user)
if is_renewed(sub) and sub.period_end <= now then
  return { "DUE" }
end
return { "OK", position, last_commit_id, now, subscription_json(user) }
