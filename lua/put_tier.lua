#!lua
-- PutTier: creates a tier, or replaces what is given of it; what is absent stays. Running subscriptions keep their price.
--
-- KEYS  meta, log, tiers, recent_0, recent_1
-- ARGV  (call), tier, price_credits ("" = unchanged), max_projects ("" = all three unchanged), max_storage_mb, max_api_calls
-- OK      events
-- REFUSES TIER_PRICE_REQUIRED, TIER_LIMITS_REQUIRED, FREE_TIER_PRICE (all answered as VALIDATION_FAILED)
-- EVENTS  tier_put
-- @include begin, read_tier, tier_limits_json, commit, accepted, remember, refuse, is_integer, bad_arguments

local has_limits = max_projects ~= ""
local function is_limit(text)
  return has_limits and is_integer(text, 0, 9007199254740991) or (not has_limits and text == "")
end
if tier == "" or (price_credits ~= "" and not is_integer(price_credits, 0, 1000000000))
  or not is_limit(max_projects) or not is_limit(max_storage_mb) or not is_limit(max_api_calls) then
  return bad_arguments("tier, price_credits, max_projects, max_storage_mb or max_api_calls")
end
local reply = begin()
if reply then
  return reply
end
local found = read_tier(tier)
if not found and price_credits == "" then
  return refuse("TIER_PRICE_REQUIRED", { "tier", tier })
end
if not found and not has_limits then
  return refuse("TIER_LIMITS_REQUIRED", { "tier", tier })
end
-- Who cannot pay a renewal falls back to free.
if tier == "free" and price_credits ~= "" and price_credits ~= "0" then
  return refuse("FREE_TIER_PRICE", { "tier", tier })
end

-- From here on the call must succeed.
local at = position + 1
local item = found or {}
item.price = price_credits == "" and item.price or tonumber(price_credits)
if has_limits then
  item.max_projects, item.max_storage_mb, item.max_api_calls = tonumber(max_projects), tonumber(max_storage_mb), tonumber(max_api_calls)
end
local events = string.format('[{"tier_put":{"tier":{"tier":"%s","price_credits":%d,"limits":%s}}}]', tier, item.price, tier_limits_json(item))

commit(commit_id, call, events)
redis.call("HSET", tiers, tier .. ":terms",
  string.format("%d %d %d %d", item.price, item.max_projects, item.max_storage_mb, item.max_api_calls))
remember("request:" .. request_id, at)
return accepted(events)
