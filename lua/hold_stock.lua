#!lua
-- HoldStock: sets the units of a cart aside, for a user or a guest, until the hold expires.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), hold_id, user_id ("" = guest), hold_ms, then per line: sku, quantity, expected_price_minor ("" = any)
-- OK      events
-- REFUSES PRODUCT_NOT_FOUND, USER_NOT_FOUND, NOT_ON_SALE, PRICE_CHANGED, PER_USER_LIMIT, SOLD_OUT, HELD_OUT
-- EVENTS  stock_held
-- @include begin, cart_lines, is_plain_sale, check_cart, expire_due, hold_json, stock_json, enter_due, pack_lines, demand, count_units, write_levels, commit, accepted, remember, integer

local lines = cart_lines(rest)
if not lines or #lines == 0 or hold_id == "" or not is_integer(hold_ms, 1, 86400000) then
  return bad_arguments("hold_id, hold_ms or lines")
end
local reply, ended = begin("hold:" .. hold_id)
if reply then
  return reply
end
local taken_at = ended or redis.call("HGET", holds, hold_id .. ":created")
if taken_at then
  return answer_from_log("EXISTS", string.match(taken_at, "^%d+"))
end
reply = expire_due(lines, nil)
if reply then
  return reply
end
local asked = demand(lines)
reply = not is_plain_sale(lines, user_id, false) and check_cart(lines, asked, user_id, false)
if reply then
  return reply
end

-- From here on the call must succeed.
local at = position + 1
local stocks = {}
for _, line in ipairs(lines) do
  line.price = read_product(line.sku).price
end
for index, line in ipairs(asked) do
  local item = read_product(line.sku)
  item.available = item.available - line.quantity
  item.held = item.held + line.quantity
  stocks[index] = stock_json(item)
end
local made = { id = hold_id, due_id = hold_id, user = user_id, lines = lines, created_at = integer(at), created_ms = now, expire = now + tonumber(hold_ms) }
local events = '[{"stock_held":{"hold":' .. hold_json(made, 1, "", at) .. ',"stocks":[' .. table.concat(stocks, ",") .. "]}}]"

commit(commit_id, call, events)
for _, line in ipairs(asked) do
  local item = read_product(line.sku)
  write_levels(item)
  count_units(user_id, item, line.quantity)
end
enter_due(made)
redis.call("HSET", holds, hold_id .. ":user", user_id, hold_id .. ":expire", integer(made.expire),
  hold_id .. ":created", made.created_at .. " " .. integer(now), hold_id .. ":lines", pack_lines(lines))
remember("request:" .. request_id, made.created_at)
return accepted(events)
