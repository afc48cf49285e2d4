-- expire_due: commits what is due of these SKUs, and this hold or order when it is due: at most 100. Returns the reply AGAIN
-- when more are left, else nil: whatever is answered afterwards rests on a committed expiry.
-- @include state, read_product, integer, expire
local function expire_due(lines, own)
  -- Nothing is due of a SKU of which nothing is held, and most carts ask for such: they are spared the look at `due`.
  local held = {}
  for index = 1, #lines do
    local line = lines[index]
    local item = read_product(line.sku)
    if item and item.held > 0 then
      held[#held + 1] = line.sku
    end
  end
  if not own and #held == 0 or #redis.call("ZRANGEBYSCORE", due, "-inf", integer(now), "LIMIT", "0", "1") == 0 then
    return nil
  end
  local ids, seen = {}, {}
  if own and own.expire and own.expire <= now then
    ids[1], seen[own.due_id] = own.due_id, true
  end
  for _, sku in ipairs(held) do
    local members = redis.call("ZRANGEBYLEX", due_skus, "[" .. sku .. ":", "(" .. sku .. ":" .. string.format("%016d", now + 1), "LIMIT", 0, 101)
    for _, member in ipairs(members) do
      local id = string.match(member, ":([^:]+)$")
      if not seen[id] then
        ids[#ids + 1], seen[id] = id, true
      end
    end
  end
  if #ids == 0 then
    return nil
  end
  local due_count = #ids
  while #ids > 100 do
    ids[#ids] = nil
  end
  if expire(ids) < due_count then
    return { "AGAIN", position, last_commit_id }
  end
  return nil
end
