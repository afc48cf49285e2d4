-- renew: commits the end of the due period of each of these users, one period each, as one log entry of its own, before
-- anything is answered from it. Returns whether one of them has another period due.
-- @include state, read_user, read_subscription, read_tier, subscription_json, tier_changed_json, write_subscription, count_tier_change, commit

-- Moves one user into the next period, in memory. Returns the event, and what it changed when the tier is another one.
local function end_period(user, at)
  local sub = read_subscription(user)
  local from_tier, to_tier, cause = sub.tier, sub.tier, 0
  if sub.scheduled ~= "" then
    to_tier, cause = sub.scheduled, 2
  end
  local charged = read_tier(to_tier).price
  if charged > user.credits then
    to_tier, charged, cause = "free", 0, 3
  end
  user.credits = user.credits - charged
  sub.tier, sub.price, sub.scheduled, sub.position, sub.updated_ms = to_tier, charged, "", at, now
  sub.period_start, sub.period_end = sub.period_end, sub.period_end + period_ms
  if cause == 0 then
    return string.format('{"subscription_renewed":{"subscription":%s,"charged_credits":%d,"credits":%d}}', subscription_json(user), charged, user.credits)
  end
  return tier_changed_json(user, from_tier, 0, cause, charged, 0), { from_tier, to_tier, charged }
end

local function renew(ids)
  local events, changes, any_left = {}, {}, false
  for index, id in ipairs(ids) do
    local user = read_user(id)
    local event, change = end_period(user, position + 1)
    events[index], changes[#changes + 1] = event, change
    any_left = any_left or (is_renewed(user.subscription) and user.subscription.period_end <= now)
  end
  -- An id of its own that nobody else can have: the call's fresh UUIDv7 as a UUIDv8, another one than that of an expiry.
  local id = string.format("%s8%x%s", string.sub(commit_id, 1, 14), 15 - tonumber(string.sub(commit_id, 16, 16), 16), string.sub(commit_id, 17))
  commit(id, '{"rpc":"RenewSubscriptions","request_id":"","request":{},"principal":""}', "[" .. table.concat(events, ",") .. "]")
  for _, each in ipairs(ids) do
    write_subscription(read_user(each))
  end
  for _, change in ipairs(changes) do
    count_tier_change(change[1], change[2], change[3], 0)
  end
  return any_left
end
