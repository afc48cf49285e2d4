#!lua flags=no-writes
-- ReadState: some fields of one key, as they stand at one position of the log, for VerifyShop.
--
-- KEYS  meta, stock, holds, due, due_skus, users, emails, limits, orders, codes, tiers, renewals, stats, recent_0, recent_1
-- ARGV  epoch, clock_ms ("" = Redis' clock), name (of the key; `recent` = both halves of the recent memory), then per item: field or member
-- OK      forgotten (ms), forgotten_position, per item: value or score, false = not there
-- @include open_meta, recall_all, integer, bad_arguments

local hashes = {
  stock = stock, holds = holds, users = users, emails = emails, limits = limits, orders = orders, codes = codes, tiers = tiers, stats = stats,
}
local sorted = { due = due, due_skus = due_skus, renewals = renewals }
if not (hashes[name] or sorted[name] or name == "recent") or #ARGV < rest or #ARGV - rest >= 3000 then
  return bad_arguments("name or items")
end
local reply = open_meta()
if reply then
  return reply
end
local values
if name == "recent" then
  local fields = {}
  for index = rest, #ARGV do
    fields[#fields + 1] = ARGV[index]
  end
  values = recall_all(fields)
else
  values = redis.call(sorted[name] and "ZMSCORE" or "HMGET", hashes[name] or sorted[name], unpack(ARGV, rest))
end
return { "OK", position, last_commit_id, now, { integer(forgotten), redis.call("HGET", meta, "forgotten_position") or "0", values } }
