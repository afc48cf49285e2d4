-- expire_due: commits the due holds of these SKUs, and this hold when it is due: at most 100. Returns the reply AGAIN when
-- more are left, else nil: whatever is answered afterwards rests on a committed expiry.
-- @include state, integer, expire
local function expire_due(lines, own_hold)
  if #redis.call("ZRANGEBYSCORE", due, "-inf", integer(now), "LIMIT", 0, 1) == 0 then
    return nil
  end
  local ids, seen = {}, {}
  if own_hold and own_hold.expire <= now then
    ids[1], seen[own_hold.id] = own_hold.id, true
  end
  for _, line in ipairs(lines) do
    local members = redis.call("ZRANGEBYLEX", due_skus, "[" .. line.sku .. ":",
      "(" .. line.sku .. ":" .. string.format("%016d", now + 1), "LIMIT", 0, 101)
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
