#!lua
-- PlaceOrder: sells a cart, or the whole of a hold, and charges the user's wallet, as one commit.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, limits, recent_0, recent_1
-- ARGV  (call), order_id, user_id, payment_method (1 wallet, 3 none), hold_id ("" = from lines), then per line: sku, quantity, expected_price_minor ("" = any)
-- OK      events
-- REFUSES PRODUCT_NOT_FOUND, USER_NOT_FOUND, HOLD_NOT_FOUND, HOLD_EXPIRED, HOLD_RELEASED, HOLD_COMMITTED, NOT_ON_SALE, PRICE_CHANGED, PER_USER_LIMIT, SOLD_OUT, HELD_OUT, INSUFFICIENT_FUNDS, BALANCE_LIMIT
-- EVENTS  hold_committed (from a hold), order_placed
-- @include begin, cart_lines, check_cart, limit_violation, violation_details, expire_due, ended_hold, read_hold, hold_json, end_hold, read_user, demand, lines_json, count_units, write_levels, commit, accepted, remember, integer

local lines = cart_lines(rest)
if not lines or order_id == "" or (payment_method ~= "1" and payment_method ~= "3") or (hold_id == "") == (#lines == 0) then
  return bad_arguments("order_id, payment_method, hold_id or lines")
end
local reply, taken_at = begin("order:" .. order_id)
if reply then
  return reply
end
if taken_at then
  return answer_from_log("EXISTS", taken_at)
end

local from_hold = nil
if hold_id ~= "" then
  from_hold = read_hold(hold_id)
  lines = from_hold and from_hold.lines or {}
end
reply = expire_due(lines, from_hold)
if reply then
  return reply
end

local asked = demand(lines)
if hold_id ~= "" then
  from_hold = from_hold and read_hold(hold_id)
  if user_id ~= "" and not read_user(user_id) then
    return refuse("USER_NOT_FOUND", { "user_id", user_id })
  end
  if not from_hold then
    return ended_hold(hold_id, false)
  end
  -- A hold is its user's own; a guest's hold can be bought by whoever brings its id.
  if user_id ~= "" and from_hold.user ~= "" and from_hold.user ~= user_id then
    return refuse("HOLD_NOT_FOUND", { "hold_id", hold_id })
  end
  if user_id == "" then
    user_id = from_hold.user
  end
  if payment_method == "1" and user_id == "" then
    return refuse("USER_NOT_FOUND", { "user_id", "" })
  end
  -- What a guest held counts for the user who buys it; a user's own hold was counted when it was made.
  for _, line in ipairs(from_hold.user == "" and user_id ~= "" and asked or {}) do
    local over = limit_violation(read_product(line.sku), line.quantity, user_id)
    if over then
      return refuse("PER_USER_LIMIT", violation_details(over), nil, { over })
    end
  end
else
  reply = check_cart(lines, asked, user_id, payment_method == "1")
  if reply then
    return reply
  end
end

-- A refused amount may be past what %d writes, 2^63.
local amount, item_count = 0, 0
for _, line in ipairs(lines) do
  line.price = line.price or read_product(line.sku).price
  amount = amount + line.price * line.quantity
  item_count = item_count + line.quantity
end
local buyer = read_user(user_id)
if payment_method == "1" and buyer.balance < amount then
  return refuse("INSUFFICIENT_FUNDS", { "user_id", user_id, "required_minor", string.format("%.0f", amount), "balance_minor", integer(buyer.balance) })
end
if amount > 9007199254740991 or (payment_method == "1" and buyer.lifetime_value + amount > 9007199254740991) then
  return refuse("BALANCE_LIMIT", { "amount_minor", string.format("%.0f", amount) })
end

-- From here on the call must succeed.
local at = position + 1
local stocks = {}
for index, line in ipairs(asked) do
  local item = read_product(line.sku)
  if from_hold then
    item.held = item.held - line.quantity
  else
    item.available = item.available - line.quantity
  end
  item.sold = item.sold + line.quantity
  stocks[index] = stock_json(item)
end
local paid = payment_method == "1" and amount or 0
local buyer_after = ""
if buyer then
  buyer_after = string.format(',"order_count":%d,"lifetime_value_minor":%d', buyer.order_count + 1, buyer.lifetime_value + paid)
end
if payment_method == "1" then
  buyer_after = ',"balance_minor":' .. integer(buyer.balance - amount) .. buyer_after
end
local placed = string.format(
  '{"order_placed":{"order":{"order_id":"%s","user_id":"%s","lines":%s,"item_count":%d,"amount_minor":%d,"refunded_minor":0,'
    .. '"state":2,"payment_method":%s,"hold_id":"%s","create_time":%d,"update_time":%d,"position":%d},"stocks":[%s]%s}}',
  order_id, user_id, lines_json(lines), item_count, amount, payment_method, hold_id, now, now, at,
  table.concat(stocks, ","), buyer_after)
local events = "[" .. placed .. "]"
if from_hold then
  events = '[{"hold_committed":{"hold":' .. hold_json(from_hold, 2, order_id, at) .. "}}," .. placed .. "]"
end

commit(commit_id, call, events)
for _, line in ipairs(asked) do
  local item = read_product(line.sku)
  write_levels(item)
  -- The units of a user's hold were counted when they were held.
  if not from_hold or from_hold.user == "" then
    count_units(user_id, item, line.quantity)
  end
end
if from_hold then
  end_hold(from_hold, "COMMITTED")
end
if buyer then
  redis.call("HSET", users, user_id .. ":balance", integer(buyer.balance - paid), user_id .. ":orders", integer(buyer.order_count + 1),
    user_id .. ":lifetime", integer(buyer.lifetime_value + paid))
end
local remembered = integer(at)
remember("request:" .. request_id, remembered, "order:" .. order_id, remembered)
return accepted(events)
