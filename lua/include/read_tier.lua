-- read_tier: the price and limits of a tier, read once per run; nil when there is no such tier.
local read_tiers = {}
local function read_tier(name)
  local known = read_tiers[name]
  if known ~= nil then
    return known or nil
  end
  -- Terms are "<price_credits> <max_projects> <max_storage_mb> <max_api_calls>".
  local terms = redis.call("HGET", tiers, name .. ":terms")
  if not terms then
    read_tiers[name] = false
    return nil
  end
  local price, max_projects, max_storage_mb, max_api_calls = string.match(terms, "^(%d+) (%d+) (%d+) (%d+)$")
  known = {
    name = name,
    price = tonumber(price),
    max_projects = tonumber(max_projects),
    max_storage_mb = tonumber(max_storage_mb),
    max_api_calls = tonumber(max_api_calls),
  }
  read_tiers[name] = known
  return known
end
