#!lua
-- RefundOrder: gives back what was paid of an order, or a part of it, and the units that are named, or all of them.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, limits, orders, stats, recent_0, recent_1
-- ARGV  (call), as_of_position, record (see find_order), order_id, amount_minor ("" = all that is left), reason_json, restock ("1" = every unit not given back yet, or "0"), then per line: sku, quantity
-- OK      events
-- REFUSES ORDER_NOT_FOUND, ORDER_STATE_INVALID, REFUND_EXCEEDS_PAID, RESTOCK_PARTIAL, RESTOCK_EXCEEDS_SOLD, BALANCE_LIMIT   (those of restocking answer as VALIDATION_FAILED; whoever asks for all of a refunded order is answered with its last change)
-- EVENTS  order_refunded
-- @include begin, is_record, find_order, refuse_state, expire_due, change_order, order_json, units_json, demand, read_product, read_buyer, purchases_text, stock_json, write_levels, count_units, remember_order, commit, accepted, remember, refuse, integer

-- The units a call names, per SKU; nil when a value is out of bounds.
local function named_units()
  local units = {}
  if (#ARGV - rest + 1) % 2 ~= 0 or #ARGV - rest + 1 > 200 then
    return nil
  end
  for index = rest, #ARGV, 2 do
    local sku, quantity = ARGV[index], ARGV[index + 1]
    if sku == "" or not is_integer(quantity, 1, 1000000) then
      return nil
    end
    units[sku] = (units[sku] or 0) + tonumber(quantity)
  end
  return units
end

-- How many units of each SKU an order has that were not given back yet, in the order of its lines.
local function units_left(order)
  local given_back, left = {}, {}
  for _, line in ipairs(order.restocked) do
    given_back[line.sku] = line.quantity
  end
  for _, line in ipairs(demand(order.lines)) do
    local quantity = line.quantity - (given_back[line.sku] or 0)
    if quantity > 0 then
      left[#left + 1] = { sku = line.sku, quantity = quantity }
    end
  end
  return left
end

-- The units a call gives back, in the order of the order's lines; with it a SKU of which more is named than is left, if any.
local function units_to_restock(named, left)
  local units = {}
  for _, line in ipairs(left) do
    local quantity = restock == "1" and line.quantity or named[line.sku]
    if quantity and quantity <= line.quantity then
      units[#units + 1] = { sku = line.sku, quantity = quantity }
      named[line.sku] = nil
    end
  end
  return units, next(named)
end

local named = named_units()
if not named or order_id == "" or not is_record() or (amount_minor ~= "" and not is_integer(amount_minor, 1, 9007199254740991))
  or reason_json == "" or (restock ~= "0" and restock ~= "1") or (restock == "1" and next(named)) then
  return bad_arguments("order_id, as_of_position, record, amount_minor, reason_json, restock or lines")
end
local reply = begin()
if reply then
  return reply
end
local order
order, reply = find_order()
if not order then
  return reply
end
-- Whoever asked for everything, or made the one refund that there was, asks again. One part of several is asked for anew.
if order.state == 5 and (amount_minor == "" or order.refund_count == 1) then
  return answer_from_log("EXISTS", integer(order.at))
end
if order.state ~= 2 and order.state ~= 3 then
  return refuse_state(order)
end
local units, excess = units_to_restock(named, units_left(order))
reply = expire_due(units, nil)
if reply then
  return reply
end
local money_left = order.amount - order.refunded
local amount = amount_minor == "" and money_left or tonumber(amount_minor)
if amount > money_left then
  return refuse("REFUND_EXCEEDS_PAID", { "order_id", order_id, "amount_minor", amount_minor, "paid_minor", integer(order.amount), "refunded_minor",
    integer(order.refunded) })
end
if restock == "1" and amount < money_left then
  return refuse("RESTOCK_PARTIAL", { "order_id", order_id })
end
if excess then
  return refuse("RESTOCK_EXCEEDS_SOLD", { "order_id", order_id, "sku", excess })
end
-- An order without payment has an amount, but nothing was paid: no money moves and nothing counts.
local buyer = order.method ~= 3 and read_buyer(order.user)
local into_wallet = order.method == 1
local refunded_total = tonumber(redis.call("HGET", stats, "refunded") or 0) + amount
if (into_wallet and buyer.balance + amount > 9007199254740991) or (order.method ~= 3 and refunded_total > 9007199254740991) then
  return refuse("BALANCE_LIMIT", { "amount_minor", integer(amount) })
end

-- From here on the call must succeed.
local stocks = {}
for index, line in ipairs(units) do
  local item = read_product(line.sku)
  item.sold = item.sold - line.quantity
  item.available = item.available + line.quantity
  stocks[index] = stock_json(item)
  order.restocked[#order.restocked + 1] = line
end
order.restocked = demand(order.restocked)
order.refunded = order.refunded + amount
order.refund_count = order.refund_count + 1
change_order(order, order.refunded == order.amount and 5 or order.state)
local about_buyer = ""
if into_wallet then
  about_buyer = ',"balance_minor":' .. integer(buyer.balance + amount)
end
if buyer then
  about_buyer = about_buyer .. ',"lifetime_value_minor":' .. integer(buyer.lifetime_value - amount)
end
local events = string.format(
  '[{"order_refunded":{"order":%s,"stocks":[%s]%s,"amount_minor":%d,"reason":%s,"restock_lines":%s,"refund_number":%d}}]',
  order_json(order), table.concat(stocks, ","), about_buyer, amount, reason_json, units_json(units), order.refund_count)

commit(commit_id, call, events)
for _, line in ipairs(units) do
  write_levels(read_product(line.sku))
  count_units(order.user, read_product(line.sku), -line.quantity)
end
if into_wallet then
  redis.call("HSET", users, order.user .. ":balance", integer(buyer.balance + amount))
end
if buyer then
  redis.call("HSET", users, order.user .. ":purchases", purchases_text(buyer.order_count, buyer.lifetime_value - amount))
end
if order.method ~= 3 then
  redis.call("HSET", stats, "refunded", integer(refunded_total))
end
remember_order(order)
remember("request:" .. request_id, integer(order.at))
return accepted(events)
