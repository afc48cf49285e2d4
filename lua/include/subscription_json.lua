-- subscription_json: a Subscription as it stands in events, with the limits of its tier.
-- @include read_tier, tier_limits_json
local function subscription_json(user)
  local sub = user.subscription
  local scheduled = ""
  if sub.scheduled ~= "" then
    scheduled = string.format(',"scheduled_tier":"%s","scheduled_time":%d', sub.scheduled, sub.period_end)
  end
  return string.format(
    '{"user_id":"%s","tier":"%s","price_credits":%d,"limits":%s,"period_start_time":%d,"period_end_time":%d%s,"update_time":%d,"position":%d}',
    user.id, sub.tier, sub.price, tier_limits_json(read_tier(sub.tier)), sub.period_start, sub.period_end, scheduled, sub.updated_ms, sub.position)
end
