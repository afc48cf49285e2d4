-- profile_text: the field `<id>:profile` of a user, "<created_at> <created_ms> <referral_code> <referred_by> <referral_count>".
local function profile_text(user)
  return string.format("%s %.0f %s %s %d", user.created_at, user.created_ms, user.referral_code, user.referred_by, user.referral_count)
end
