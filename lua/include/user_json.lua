-- user_json: a User as it stands in events: without e-mail and display name, which stay erasable. It needs the profile.
local function user_json(user, at)
  return string.format(
    '{"user_id":"%s","balance_minor":%d,"credits":%d,"tier":"%s","referral_code":"%s","referred_by":"%s","referral_count":%d,'
      .. '"order_count":%d,"lifetime_value_minor":%d,"create_time":%d,"update_time":%d,"position":%d}',
    user.id, user.balance, user.credits, user.tier, user.referral_code, user.referred_by, user.referral_count,
    user.order_count, user.lifetime_value, user.created_ms, user.updated_ms, at)
end
