-- expire: commits the expiry of the given holds as one log entry of its own, before anything is answered from it: the first
-- ones up to 1,000 lines together, so that an entry and the script stay short. Returns how many.
-- @include state, read_hold, hold_json, give_back, commit, end_hold, count_units, demand, read_product, write_levels
local function expire(ids)
  local events, ended, line_count = {}, {}, 0
  for index, id in ipairs(ids) do
    local item = read_hold(id)
    line_count = line_count + #item.lines
    if index > 1 and line_count > 1000 then
      break
    end
    local stocks = give_back(item)
    events[index] = string.format('{"hold_expired":{"hold":%s,"stocks":%s}}', hold_json(item, 4, "", position + 1), stocks)
    ended[index] = item
  end
  -- An id of its own that nobody else can have: the call's fresh UUIDv7 as a UUIDv8.
  local id = string.sub(commit_id, 1, 14) .. "8" .. string.sub(commit_id, 16)
  commit(id, '{"rpc":"ExpireHolds","request_id":"","request":{},"principal":""}', "[" .. table.concat(events, ",") .. "]")
  local touched = {}
  for _, item in ipairs(ended) do
    for _, line in ipairs(demand(item.lines)) do
      touched[line.sku] = true
      count_units(item.user, read_product(line.sku), -line.quantity)
    end
    end_hold(item, "EXPIRED")
  end
  for sku in pairs(touched) do
    write_levels(read_product(sku))
  end
  return #ended
end
