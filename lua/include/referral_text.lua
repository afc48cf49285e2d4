-- referral_text: the field `<id>:referral` of a user.
local function referral_text(user)
  return string.format("%s %s %d", user.referral_code, user.referred_by, user.referral_count)
end
