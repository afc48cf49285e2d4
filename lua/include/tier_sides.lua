-- tier_sides: what a change of tier now is made of: what the new tier costs, and what the old one gives back.
-- Proration 1 = full prices; 2 = the part of them that is left of the period, the same function for both sides, so that any
-- chain of changes costs what its segments cost. The product stays below 2^53 (10^9 credits, 2,592,000 seconds), and its
-- quotient is further from the next integer than a double rounds: the floor is exact.
-- @include state
local function left(price, seconds)
  return math.floor(price * seconds / 2592000)
end

local function tier_sides(sub, price, proration)
  if proration == "1" then
    return price, sub.price
  end
  local seconds = math.floor((sub.period_end - now) / 1000)
  return left(price, seconds), left(sub.price, seconds)
end
