#!lua
-- ChangeTier: moves a user to another tier: now, charging or crediting the difference, or at the period's end.
--
-- KEYS  meta, log, users, tiers, renewals, stats, recent_0, recent_1
-- ARGV  (call), user_id, tier, proration (1 full difference, 2 time-based), timing (1 now, 2 at the period's end), quote_position ("" = no quote; 0 = one that is not this user's), quote_price, quote_charged, quote_credited, quote_expire_ms
-- OK      events
-- REFUSES QUOTE_INVALID, USER_NOT_FOUND, TIER_NOT_FOUND, QUOTE_STALE, ALREADY_ON_TIER, INSUFFICIENT_CREDITS, BALANCE_LIMIT
-- AGAIN   when several of the user's periods were due
-- EVENTS  tier_changed (now), tier_change_scheduled (at the period's end)
-- @include begin, read_user, read_subscription, read_tier, renew_due, tier_sides, tier_changed_json, subscription_json, write_subscription, count_tier_change, commit, accepted, remember, refuse, integer, is_integer, bad_arguments

local has_quote = quote_position ~= "" and quote_position ~= "0"
local function is_quoted(text, most)
  return has_quote and is_integer(text, 0, most) or (not has_quote and text == "")
end
if user_id == "" or (tier == "" and quote_position ~= "0") or (proration ~= "1" and proration ~= "2") or (timing ~= "1" and timing ~= "2")
  or (has_quote and not is_integer(quote_position, 1, 9007199254740991)) or not is_quoted(quote_price, 1000000000)
  or not is_quoted(quote_charged, 1000000000) or not is_quoted(quote_credited, 1000000000) or not is_quoted(quote_expire_ms, 9007199254740991) then
  return bad_arguments("user_id, tier, proration, timing or quote")
end
local reply = begin()
if reply then
  return reply
end
if quote_position == "0" then
  return refuse("QUOTE_INVALID", {})
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
local target = read_tier(tier)
if not target then
  return refuse("TIER_NOT_FOUND", { "tier", tier })
end
if has_quote and (now >= tonumber(quote_expire_ms) or sub.position ~= tonumber(quote_position) or target.price ~= tonumber(quote_price)) then
  return refuse("QUOTE_STALE", { "user_id", user_id, "tier", tier })
end
if tier == sub.tier then
  return refuse("ALREADY_ON_TIER", { "user_id", user_id, "tier", tier })
end
local charged, credited = 0, 0
if has_quote then
  charged, credited = tonumber(quote_charged), tonumber(quote_credited)
elseif timing == "1" then
  local cost, back = tier_sides(sub, target.price, proration)
  charged, credited = math.max(cost - back, 0), math.max(back - cost, 0)
end
if charged > user.credits then
  return refuse("INSUFFICIENT_CREDITS", { "user_id", user_id, "required_credits", integer(charged), "credits", integer(user.credits) })
end
if charged + credited > 0 then
  local total = tonumber(redis.call("HGET", stats, charged > 0 and "upgrade_credits" or "downgrade_credits") or 0)
  if user.credits + credited > 9007199254740991 or total + charged + credited > 9007199254740991 then
    return refuse("BALANCE_LIMIT", { "user_id", user_id, "credits", integer(user.credits), "credited_credits", integer(credited) })
  end
end

-- From here on the call must succeed.
local at = position + 1
local from_tier = sub.tier
sub.position, sub.updated_ms = at, now
user.credits = user.credits - charged + credited
local events
if timing == "1" then
  sub.tier, sub.price, sub.scheduled = tier, target.price, ""
  events = "[" .. tier_changed_json(user, from_tier, tonumber(proration), 1, charged, credited) .. "]"
else
  sub.scheduled = tier
  events = string.format('[{"tier_change_scheduled":{"subscription":%s,"from_tier":"%s","to_tier":"%s"}}]', subscription_json(user), from_tier, tier)
end

commit(commit_id, call, events)
write_subscription(user)
if timing == "1" then
  count_tier_change(from_tier, tier, charged, credited)
end
remember("request:" .. request_id, at)
return accepted(events)
