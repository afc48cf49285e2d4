-- read_due: what a member of `due` names: the open hold `<id>`, or the unpaid order `order/<id>`; nil when it is neither.
-- @include read_hold, read_order
local function read_due(due_id)
  local order = string.match(due_id, "^order/(.*)$")
  if order then
    return read_order(order)
  end
  return read_hold(due_id)
end
