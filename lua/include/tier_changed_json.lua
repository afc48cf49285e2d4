-- tier_changed_json: the event of a user's change to the tier that the subscription has by now. Causes: 1 caller, 2 scheduled,
-- 3 renewal failed; the proration is 0 where no caller chose one.
-- @include subscription_json
local function tier_changed_json(user, from_tier, proration, cause, charged, credited)
  return string.format(
    '{"tier_changed":{"subscription":%s,"from_tier":"%s","to_tier":"%s","proration":%d,"cause":%d,"charged_credits":%d,"credited_credits":%d,"credits":%d}}',
    subscription_json(user), from_tier, user.subscription.tier, proration, cause, charged, credited, user.credits)
end
