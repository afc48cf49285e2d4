#!lua
-- Load: one numbered step of a rebuild: runs only under the rebuild's token and directly after the step before it.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, emails, limits, orders, codes, tiers, renewals, stats, recent_0, recent_1
-- ARGV  token, step_number, rest_ms (estimate until the end; -1 = unknown), step, then per step: value
-- OK      1, or 0 when another rebuild took over or Redis lost a step
--
-- Steps: clear <keep_log>; stock|holds|users|emails|limits|orders|codes|tiers|stats|recent <field> <value> ...;
-- due|due_skus|renewals <score> <member> ...; count <field of stats> <difference> ...; log <position> <n> <n fields and values> ...; and as the
-- last one head <position> <commit_id> <time> <forgotten>, or, after Forget, catch_up <position> <commit_id> <time>.
-- Of a hash, all fields and values may come as one text, with \31 between them; none of them is empty then.
-- @include is_integer, bad_arguments, whole

local function read_entries()
  local entries, index = {}, rest
  while index <= #ARGV do
    local count = ARGV[index + 1]
    if not is_integer(ARGV[index], 1, 9007199254740991) or not is_integer(count, 2, 100) or index + 1 + count > #ARGV then
      return nil
    end
    entries[#entries + 1] = { id = ARGV[index] .. "-0", from = index + 2, to = index + 1 + count }
    index = index + 2 + count
  end
  return entries
end
local entries = step == "log" and read_entries()
if not is_integer(step_number, 0, 9007199254740991) or not is_integer(rest_ms, -1, 9007199254740991) or entries == nil or (step == "clear" and ARGV[rest] ~= "0" and ARGV[rest] ~= "1")
  or ((step == "head" or step == "catch_up") and not (is_integer(ARGV[rest], 1, 9007199254740991) and #ARGV[rest + 1] == 36
    and is_integer(ARGV[rest + 2], 0, 9007199254740991) and (step == "catch_up" or is_integer(ARGV[rest + 3], 0, 9007199254740991)))) then
  return bad_arguments("step_number, rest_ms or the values of " .. step)
end
local at = redis.call("HMGET", meta, "token", "loaded", "bucket")
if at[1] ~= token or at[2] ~= step_number then
  return 0
end
local hashes = {
  stock = stock, holds = holds, users = users, emails = emails, limits = limits, orders = orders, codes = codes, tiers = tiers,
  stats = stats, recent = at[3] == "1" and recent_1 or recent_0,
}
local sorted = { due = due, due_skus = due_skus, renewals = renewals }
local loaded = string.format("%d", step_number + 1)
if step == "clear" then
  redis.call("UNLINK", stock, holds, due, due_skus, users, emails, limits, orders, codes, tiers, renewals, stats, recent_0, recent_1)
  redis.call("HSET", meta, "bucket", "0")
  if ARGV[rest] ~= "1" then
    redis.call("UNLINK", log)
  end
elseif hashes[step] and #ARGV == rest then
  -- Lua splits 0.1 us a value; a value of its own in ARGV costs the server, the connection and Redis several times that.
  local values, count = {}, 0
  for value in string.gmatch(ARGV[rest], "[^\31]+") do
    if count == 4000 then
      redis.call("HSET", hashes[step], unpack(values, 1, count))
      count = 0
    end
    count = count + 1
    values[count] = value
  end
  redis.call("HSET", hashes[step], unpack(values, 1, count))
elseif hashes[step] then
  redis.call("HSET", hashes[step], unpack(ARGV, rest))
elseif sorted[step] then
  redis.call("ZADD", sorted[step], unpack(ARGV, rest))
elseif step == "count" then
  for index = rest, #ARGV, 2 do
    redis.call("HINCRBY", stats, ARGV[index], ARGV[index + 1])
  end
elseif step == "log" then
  for _, entry in ipairs(entries) do
    redis.call("XADD", log, entry.id, unpack(ARGV, entry.from, entry.to))
  end
elseif step == "head" then
  redis.call("HSET", meta, "position", ARGV[rest], "commit_id", ARGV[rest + 1], "time", ARGV[rest + 2], "forgotten", ARGV[rest + 3],
    "forgotten_position", ARGV[rest], "flushed", ARGV[rest], "bucket", "0", "turn_time", "0", "turn_position", "0")
  loaded = whole
elseif step == "catch_up" then
  -- The memory keeps its halves. What commits that are gone said of it may lie beyond the head; of what it let go, all that
  -- still is lies below it.
  local memory = redis.call("HMGET", meta, "forgotten", "forgotten_position", "turn_time", "turn_position")
  local function least(text, most)
    return string.format("%d", math.min(text or 0, most))
  end
  local position, time = ARGV[rest], ARGV[rest + 2]
  redis.call("HSET", meta, "position", position, "commit_id", ARGV[rest + 1], "time", time, "flushed", position, "forgotten", least(memory[1], time),
    "forgotten_position", least(memory[2], position), "turn_time", least(memory[3], time), "turn_position", least(memory[4], position))
  loaded = whole
else
  return bad_arguments("step " .. step)
end
if rest_ms == "-1" then
  redis.call("HSET", meta, "loaded", loaded)
else
  local time = redis.call("TIME")
  redis.call("HSET", meta, "loaded", loaded, "ready_time", string.format("%d", time[1] * 1000 + math.floor(time[2] / 1000) + rest_ms))
end
return 1
