-- count_units: adds to what a user has had of a SKU whose limit is tracked; a sum of zero leaves no field.
local function count_units(user, item, quantity)
  if user == "" or not item.tracked then
    return
  end
  local field = user .. ":" .. item.sku
  if redis.call("HINCRBY", limits, field, quantity) == 0 then
    redis.call("HDEL", limits, field)
  end
end
