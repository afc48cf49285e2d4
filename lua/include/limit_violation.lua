-- limit_violation: the violation when a user would have more of a SKU than one may; nil when not.
-- @include integer
local function limit_violation(item, quantity, user)
  if item.limit == 0 then
    return nil
  end
  local had = tonumber(redis.call("HGET", limits, user .. ":" .. item.sku) or 0)
  if had + quantity <= item.limit then
    return nil
  end
  return { "PER_USER_LIMIT", "sku", item.sku, "limit", integer(item.limit), "had_count", integer(had), "requested_count", integer(quantity) }
end
