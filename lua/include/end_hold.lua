-- end_hold: takes a hold out of the open ones; the recent memory keeps "<created at> <ended at> <state>" for late callers.
-- @include demand, due_member, remember, state, integer
local function end_hold(item, hold_state)
  for _, line in ipairs(demand(item.lines)) do
    redis.call("ZREM", due_skus, due_member(line.sku, item.expire, item.id))
  end
  redis.call("ZREM", due, item.id)
  redis.call("HDEL", holds, item.id .. ":user", item.id .. ":expire", item.id .. ":created", item.id .. ":lines")
  remember("hold:" .. item.id, item.created_at .. " " .. integer(position) .. " " .. hold_state)
end
