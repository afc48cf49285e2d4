-- hold_json: a Hold as it stands in events. States: 1 active, 2 committed, 3 released, 4 expired.
-- `create_position` is for Postgres only.
-- @include lines_json
local function hold_json(item, hold_state, order, at)
  return string.format(
    '{"hold_id":"%s","user_id":"%s","lines":%s,"state":%d,"create_time":%d,"expire_time":%d,"order_id":"%s","create_position":%s,"position":%d}',
    item.id, item.user, lines_json(item.lines), hold_state, item.created_ms, item.expire, order, item.created_at, at)
end
