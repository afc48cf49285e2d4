#!lua
-- PutProduct: creates a product, or replaces what is given of it; what is absent stays.
--
-- KEYS  meta, log, stock, recent_0, recent_1
-- ARGV  (call), sku, title_json, price_minor ("" = unchanged), max_per_user ("" = unchanged), sale_start_ms ("" = unchanged), sale_end_ms ("" = unchanged), withdrawn ("" = unchanged)
-- OK      events
-- REFUSES PRICE_REQUIRED, SALE_WINDOW (both answered as VALIDATION_FAILED)
-- EVENTS  product_put
-- @include begin, read_product, commit, accepted, remember, refuse, integer

local function optional(text, most)
  return text == "" or is_integer(text, 0, most)
end
if sku == "" or title_json == "" or not optional(price_minor, 9007199254740991) or not optional(max_per_user, 9007199254740991)
  or not optional(sale_start_ms, 9007199254740991) or not optional(sale_end_ms, 9007199254740991) or not optional(withdrawn, 1) then
  return bad_arguments("sku, title_json, price_minor, max_per_user, sale_start_ms, sale_end_ms or withdrawn")
end
local reply = begin()
if reply then
  return reply
end
local found = read_product(sku)
if not found and price_minor == "" then
  return refuse("PRICE_REQUIRED", { "sku", sku })
end
local item = found or { sku = sku, available = 0, held = 0, sold = 0, limit = 0, tracked = false, sale_start = 0, sale_end = 0, withdrawn = false }
local function changed(text, before)
  return text == "" and before or tonumber(text)
end
local sale_start, sale_end = changed(sale_start_ms, item.sale_start), changed(sale_end_ms, item.sale_end)
if sale_end > 0 and sale_end <= sale_start then
  return refuse("SALE_WINDOW", { "sku", sku })
end
local limit = changed(max_per_user, item.limit)
-- What users had of a product that never had a limit is not kept here: it is loaded before the first limit holds.
if limit > 0 and not item.tracked and (item.held + item.sold > 0 or redis.call("HEXISTS", stock, sku .. ":loading") == 1) then
  return { "LOAD_LIMITS", position, last_commit_id }
end

-- From here on the call must succeed.
local at = position + 1
item.price = changed(price_minor, item.price)
item.limit, item.sale_start, item.sale_end = limit, sale_start, sale_end
item.tracked = item.tracked or limit > 0
if withdrawn ~= "" then
  item.withdrawn = withdrawn == "1"
end
local created_ms = found and tonumber(redis.call("HGET", stock, sku .. ":created")) or now
local window = ""
if sale_start > 0 then
  window = window .. ',"sale_start_time":' .. integer(sale_start)
end
if sale_end > 0 then
  window = window .. ',"sale_end_time":' .. integer(sale_end)
end
local events = string.format(
  '[{"product_put":{"product":{"sku":"%s","title":%s,"price_minor":%d,"max_per_user":%d%s,"withdrawn":%s,"create_time":%d,'
    .. '"update_time":%d,"position":%d},"created":%s}}]',
  sku, title_json, item.price, limit, window, item.withdrawn and "true" or "false", created_ms, now, at, found and "false" or "true")

commit(commit_id, call, events)
local terms = ""
if item.tracked or sale_start > 0 or sale_end > 0 or item.withdrawn then
  terms = string.format("%d %s %d %d %s", limit, item.tracked and "1" or "0", sale_start, sale_end, item.withdrawn and "1" or "0")
end
redis.call("HSET", stock, sku .. ":available", item.available, sku .. ":held", item.held, sku .. ":sold", item.sold,
  sku .. ":price", item.price, sku .. ":terms", terms, sku .. ":created", created_ms)
remember("request:" .. request_id, at)
return accepted(events)
