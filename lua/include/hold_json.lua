-- hold_json: a Hold as it stands in events. States: 1 active, 2 committed, 3 released, 4 expired.
-- `create_position` is for Postgres only.
-- @include lines_json, integer
local function hold_json(item, hold_state, order, at)
  return '{"hold_id":"' .. item.id .. '","user_id":"' .. item.user .. '","lines":' .. lines_json(item.lines)
    .. ',"state":' .. integer(hold_state) .. ',"create_time":' .. integer(item.created_ms) .. ',"expire_time":' .. integer(item.expire)
    .. ',"order_id":"' .. order .. '","create_position":' .. item.created_at .. ',"position":' .. integer(at) .. "}"
end
