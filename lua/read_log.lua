#!lua flags=no-writes
-- ReadLog: one consistent look at the log for a flush round: epoch, last entry, the entries from the head we know
-- (inclusive), and who wrote each of the positions asked about. Every entry begins with `v <format> commit <commit_id>`.
--
-- KEYS  meta, log
-- ARGV  from_position, count, then per question: position
-- OK      epoch ("" = sealed or loading), position, commit_id, entries, per question: commit_id or false

local at = redis.call("HMGET", meta, "epoch", "position", "commit_id")
-- Large entries (expiries of large carts) end a look early: what it returns has to fit into one statement.
local entries, bytes, from = {}, 0, from_position
while #entries < tonumber(count) and bytes < 4000000 do
  local page = redis.call("XRANGE", log, from, "+", "COUNT", math.min(100, count - #entries))
  for _, entry in ipairs(page) do
    entries[#entries + 1] = entry
    bytes = bytes + #entry[2][10] + #entry[2][12]
  end
  if #page < 100 then
    break
  end
  from = "(" .. page[#page][1]
end
local writers = {}
for index = rest, #ARGV do
  local entry = redis.call("XRANGE", log, ARGV[index], ARGV[index])[1]
  writers[#writers + 1] = entry and entry[2][4] or false
end
return { at[1] or "", tonumber(at[2] or 0), at[3] or "", entries, writers }
