#!lua
-- LoadLimits: brings what users have had of one SKU into `limits`, before the SKU's first limit. Postgres gave the counts
-- as of one commit; what the log holds after that commit is added here, so nothing is missed and nothing stands still.
--
-- KEYS  meta, log, stock, limits
-- ARGV  epoch, sku, as_of_position, as_of_commit_id, load_id, first ("1" = the first chunk), final ("1" = the last chunk), then per user: user_id, unit_count
-- OK      nothing
-- AGAIN   when the log no longer holds that commit, or another load of this SKU came in between
--
-- Every user who ever held or bought the SKU is given, also with 0: what an interrupted load left is written over.
-- @include bad_arguments, is_integer, read_product

if sku == "" or load_id == "" or not is_integer(as_of_position, 1, 9007199254740991) or (#ARGV - rest + 1) % 2 ~= 0 then
  return bad_arguments("sku, load_id, as_of_position or the counts")
end
for index = rest, #ARGV, 2 do
  if ARGV[index] == "" or not is_integer(ARGV[index + 1], -9007199254740991, 9007199254740991) then
    return bad_arguments("a user's count")
  end
end
if redis.call("HGET", meta, "epoch") ~= epoch then
  return { "MISMATCH" }
end
local as_of = redis.call("XRANGE", log, as_of_position, as_of_position)[1]
if not as_of or as_of[2][4] ~= as_of_commit_id then
  return { "AGAIN" }
end
local item = read_product(sku)
if not item or item.tracked then
  return { "OK" }
end

if first ~= "1" and redis.call("HGET", stock, sku .. ":loading") ~= load_id then
  return { "AGAIN" }
end

local counts = {}
for index = rest, #ARGV, 2 do
  counts[ARGV[index]] = tonumber(ARGV[index + 1])
end
local later = {}
local function add(user, lines, sign)
  for _, line in ipairs(lines) do
    if user ~= "" and line.sku == sku then
      later[user] = (later[user] or 0) + sign * line.quantity
    end
  end
end
if final == "1" then
  for _, entry in ipairs(redis.call("XRANGE", log, "(" .. as_of_position, "+")) do
    local holder = nil
    for _, event in ipairs(cjson.decode(entry[2][12])) do
      local held = event.stock_held
      local ended = event.hold_released or event.hold_expired
      if held then
        add(held.hold.user_id, held.hold.lines, 1)
      elseif ended then
        add(ended.hold.user_id, ended.hold.lines, -1)
      elseif event.hold_committed then
        holder = event.hold_committed.hold.user_id
      elseif event.order_placed and (holder or "") == "" then
        add(event.order_placed.order.user_id, event.order_placed.order.lines, 1)
      elseif event.order_cancelled then
        add(event.order_cancelled.order.user_id, event.order_cancelled.order.lines, -1)
      elseif event.order_refunded then
        add(event.order_refunded.order.user_id, event.order_refunded.restock_lines, -1)
      end
    end
  end
end

-- From here on the call must succeed.
redis.call("HSET", stock, sku .. ":loading", load_id)
for user, count in pairs(counts) do
  if count == 0 then
    redis.call("HDEL", limits, user .. ":" .. sku)
  else
    redis.call("HSET", limits, user .. ":" .. sku, string.format("%d", count))
  end
end
if final == "1" then
  redis.call("HDEL", stock, sku .. ":loading")
  for user, count in pairs(later) do
    if redis.call("HINCRBY", limits, user .. ":" .. sku, count) == 0 then
      redis.call("HDEL", limits, user .. ":" .. sku)
    end
  end
  redis.call("HSET", stock, sku .. ":terms", string.format("0 1 %d %d %s", item.sale_start, item.sale_end, item.withdrawn and "1" or "0"))
end
return { "OK" }
