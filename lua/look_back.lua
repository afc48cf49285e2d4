#!lua flags=no-writes
-- LookBack: the newest entries of a log that a rebuild sealed, and of which SKUs it counts what users have had.
--
-- KEYS  meta, log, stock
-- ARGV  token, to_position, count, then per question: sku
-- OK      entries (newest first, from to_position down), per question: "0" or "1" (counted), "" (no such product) or "loading" (being counted
--         since LoadLimits); or 0 when another rebuild took over, or this one has begun to load
-- @include is_integer, bad_arguments, read_product

if token == "" or not is_integer(to_position, 0, 9007199254740991) or not is_integer(count, 0, 1000) then
  return bad_arguments("token, to_position or count")
end
local at = redis.call("HMGET", meta, "token", "loaded")
if at[1] ~= token or at[2] ~= "0" then
  return 0
end
local entries, bytes, to = {}, 0, to_position
while #entries < tonumber(count) and bytes < 4000000 do
  local page = redis.call("XREVRANGE", log, to, "-", "COUNT", math.min(100, count - #entries))
  for _, entry in ipairs(page) do
    entries[#entries + 1] = entry
    bytes = bytes + #entry[2][10] + #entry[2][12]
  end
  if #page < 100 then
    break
  end
  to = "(" .. page[#page][1]
end
local counted = {}
for index = rest, #ARGV do
  local item = read_product(ARGV[index])
  local answer = item and (item.tracked and "1" or "0") or ""
  counted[#counted + 1] = redis.call("HEXISTS", stock, ARGV[index] .. ":loading") == 1 and "loading" or answer
end
return { entries, counted }
