-- find_order: an order in whatever state: one that waits for its payment from Redis, after its expiry when it is due; else the
-- row that the caller read in Postgres (`record`, as of `as_of_position`; "" = not read yet, "null" = there is none).
-- Returns the order, or nil and the reply to give: LOAD_FIRST when the row is needed and was not read, or is older than the
-- order's last change; ORDER_NOT_FOUND.
-- @include state, read_order, expire_due, recall, refuse
local function order_of_record(row)
  -- What is empty may also be JSON's null.
  for name, value in pairs(row) do
    row[name] = value ~= cjson.null and value or nil
  end
  local function text(value)
    return value and cjson.encode(value)
  end
  local found = {
    id = row.order_id, user = row.user_id, lines = {}, item_count = row.item_count, amount = row.amount_minor,
    refunded = row.refunded_minor, state = row.state, method = row.payment_method, hold = row.hold_id,
    payment_reference = text(row.payment_reference), charge_id = text(row.charge_id),
    fulfill_reference = text(row.fulfill_reference), cancel_reason = text(row.cancel_reason), created_ms = row.create_time,
    updated_ms = row.update_time, created_at = string.format("%d", row.create_position), at = row.position,
    confirmed_at = row.confirm_position or 0, fulfilled_at = row.fulfill_position or 0,
    refund_count = row.refund_count or 0,
    restocked = row.restocked or {},
  }
  for index, line in ipairs(row.lines) do
    found.lines[index] = { sku = line.sku, quantity = line.quantity, price = line.price_minor }
  end
  return found
end

local function find_order()
  local waiting = read_order(order_id)
  if waiting then
    local again = expire_due(waiting.lines, waiting)
    if again then
      return nil, again
    end
    waiting = read_order(order_id)
    if waiting then
      return waiting
    end
  end
  local changes = recall("order:" .. order_id)
  local changed_at = tonumber(changes and string.match(changes, "%d+$") or 0)
  local forgotten_at = tonumber(redis.call("HGET", meta, "forgotten_position"))
  if record == "" or tonumber(as_of_position) < math.max(changed_at, forgotten_at) then
    return nil, { "LOAD_FIRST", position, last_commit_id }
  end
  if record == "null" then
    return nil, refuse("ORDER_NOT_FOUND", { "order_id", order_id })
  end
  return order_of_record(cjson.decode(record))
end
