#!lua flags=no-writes
-- PreviewTierChange: what a change of tier would cost, made of what, and what that rests on.
--
-- KEYS  meta, users, tiers
-- ARGV  epoch, clock_ms ("" = Redis' clock), user_id, tier, proration (1 full difference, 2 time-based), timing (1 now, 2 at the period's end)
-- OK      quote, as JSON
-- DUE     when a period of the user ended: its renewal has to be committed first
-- REFUSES USER_NOT_FOUND, TIER_NOT_FOUND, ALREADY_ON_TIER
-- @include open_meta, read_user, read_subscription, read_tier, tier_sides, refuse, bad_arguments

if not tier or (proration ~= "1" and proration ~= "2") or (timing ~= "1" and timing ~= "2") then
  return bad_arguments("tier, proration or timing")
end
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
local target = read_tier(tier)
if not target then
  return refuse("TIER_NOT_FOUND", { "tier", tier })
end
if tier == sub.tier then
  return refuse("ALREADY_ON_TIER", { "user_id", user_id, "tier", tier })
end
local cost, back, effective = 0, 0, sub.period_end
if timing == "1" then
  cost, back = tier_sides(sub, target.price, proration)
  effective = now
end
-- A quote is good for five minutes, and never in another period.
local quote = string.format(
  '{"user_id":"%s","from_tier":"%s","to_tier":"%s","proration":%s,"timing":%s,"charged_credits":%d,"credited_credits":%d,'
    .. '"effective_time":%d,"expire_time":%d,"cost_credits":%d,"back_credits":%d,"price_credits":%d,"seconds_left":%d,"position":%d}',
  user_id, sub.tier, tier, proration, timing, math.max(cost - back, 0), math.max(back - cost, 0),
  effective, math.min(now + 300000, sub.period_end), cost, back, target.price, math.floor((sub.period_end - now) / 1000), sub.position)
return { "OK", position, last_commit_id, now, quote }
