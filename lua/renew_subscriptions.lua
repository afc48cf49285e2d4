#!lua
-- RenewSubscriptions: commits the end of due periods, one each of at most 100 users: of the given user, else of the shop's oldest.
--
-- KEYS  meta, log, users, tiers, renewals, stats
-- ARGV  epoch, commit_id, clock_ms ("" = Redis' clock), user_id ("" = the shop's oldest)
-- OK      events (always empty: nobody asked for them)
-- AGAIN   when more may be due
-- EVENTS  subscription_renewed, tier_changed
-- @include open_meta, read_user, renew, renew_due, integer, is_integer, bad_arguments

if #commit_id ~= 36 or (clock_ms ~= "" and not is_integer(clock_ms, 0, 9007199254740991)) or not user_id then
  return bad_arguments("commit_id, clock_ms or user_id")
end
local reply = open_meta()
if reply then
  return reply
end
if user_id ~= "" then
  local user = read_user(user_id)
  return user and renew_due(user) or { "OK", position, last_commit_id, now, "[]" }
end
local ids = redis.call("ZRANGEBYSCORE", renewals, "-inf", integer(now), "LIMIT", 0, 100)
local any_left = #ids > 0 and renew(ids)
return { (#ids == 100 or any_left) and "AGAIN" or "OK", position, last_commit_id, now, "[]" }
