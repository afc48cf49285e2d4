-- count_tier_change: adds a change of tier to the shop's stats.
-- @include integer
local function count_tier_change(from_tier, to_tier, charged, credited)
  redis.call("HINCRBY", stats, "tier:" .. from_tier, "-1")
  redis.call("HINCRBY", stats, "tier:" .. to_tier, "1")
  if charged > 0 then
    redis.call("HINCRBY", stats, "upgrade_credits", integer(charged))
  elseif credited > 0 then
    redis.call("HINCRBY", stats, "downgrade_credits", integer(credited))
  end
end
