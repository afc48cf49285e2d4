#!lua flags=no-writes
-- ScanState: one page of one key, as it stands at one position of the log, for VerifyShop.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, emails, limits, orders, codes, tiers, renewals, stats, recent_0, recent_1
-- ARGV  epoch, clock_ms ("" = Redis' clock), name (of the key), cursor ("0" = from the start), count (about so many, 2 at least)
-- OK      next cursor ("0" = that was all), per item: field and value, or member and score; of `log` per entry: id, fields
--
-- A page of the log begins with the last entry of the page before it, the cursor: where it does not, the log was trimmed in between.
-- Values of the recent memory are those that hold: a field may stand in both halves.
-- @include open_meta, recall_all, is_integer, bad_arguments

local hashes = {
  stock = stock, holds = holds, users = users, emails = emails, limits = limits, orders = orders, codes = codes, tiers = tiers,
  stats = stats, recent_0 = recent_0, recent_1 = recent_1,
}
local sorted = { due = due, due_skus = due_skus, renewals = renewals }
if not (hashes[name] or sorted[name] or name == "log") or not cursor or not is_integer(count, 2, 3000) then
  return bad_arguments("name, cursor or count")
end
local reply = open_meta()
if reply then
  return reply
end
if name == "log" then
  local entries, items = redis.call("XRANGE", log, cursor == "0" and "-" or cursor, "+", "COUNT", count), {}
  for _, entry in ipairs(entries) do
    items[#items + 1] = entry[1]
    items[#items + 1] = entry[2]
  end
  return { "OK", position, last_commit_id, now, { #entries == tonumber(count) and entries[#entries][1] or "0", items } }
end
local page = redis.call(sorted[name] and "ZSCAN" or "HSCAN", hashes[name] or sorted[name], cursor, "COUNT", count)
local items = page[2]
if name == "recent_0" or name == "recent_1" then
  local fields = {}
  for index = 1, #items, 2 do
    fields[#fields + 1] = items[index]
  end
  for index, value in ipairs(recall_all(fields)) do
    items[2 * index] = value
  end
end
return { "OK", position, last_commit_id, now, { page[1], items } }
