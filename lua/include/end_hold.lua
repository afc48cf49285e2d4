-- end_hold: takes a hold out of the open ones; the recent memory keeps "<created at> <ended at> <state>" for late callers.
-- @include leave_due, remember, state, integer
local function end_hold(item, hold_state)
  leave_due(item)
  redis.call("HDEL", holds, item.id .. ":user", item.id .. ":expire", item.id .. ":created", item.id .. ":lines")
  remember("hold:" .. item.id, item.created_at .. " " .. integer(position) .. " " .. hold_state)
end
