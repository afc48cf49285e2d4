-- expire: commits the expiry of the given holds (`<id>`) and unpaid orders (`order/<id>`) as one log entry of its own, before
-- anything is answered from it: the first ones up to 1,000 lines together, so that an entry and the script stay short.
-- Returns how many.
-- @include state, read_due, hold_json, order_json, change_order, give_back, commit, end_hold, end_order, count_units, demand, read_product, write_levels
local function expire(due_ids)
  local events, ended, line_count = {}, {}, 0
  for index, due_id in ipairs(due_ids) do
    local item = read_due(due_id)
    line_count = line_count + #item.lines
    if index > 1 and line_count > 1000 then
      break
    end
    local stocks = give_back(item)
    if item.method then
      change_order(item, 4)
      item.cancel_reason = '"EXPIRED"'
      events[index] = string.format('{"order_cancelled":{"order":%s,"stocks":%s}}', order_json(item), stocks)
    else
      events[index] = string.format('{"hold_expired":{"hold":%s,"stocks":%s}}', hold_json(item, 4, "", position + 1), stocks)
    end
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
    if item.method then
      end_order(item)
    else
      end_hold(item, "EXPIRED")
    end
  end
  for sku in pairs(touched) do
    write_levels(read_product(sku))
  end
  return #ended
end
