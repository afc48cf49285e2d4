-- user_json: a User as it stands in events: without e-mail and display name, which stay erasable.
-- @include 
local function user_json(user, at)
  return string.format(
    '{"user_id":"%s","balance_minor":%.0f,"credits":%.0f,"tier":"free","referral_count":0,"order_count":%.0f,'
      .. '"lifetime_value_minor":%.0f,"create_time":%.0f,"update_time":%.0f,"position":%.0f}',
    user.id, user.balance, user.credits, user.order_count, user.lifetime_value, user.created_ms, user.updated_ms, at)
end
