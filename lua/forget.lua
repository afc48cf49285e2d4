#!lua
-- Forget: one numbered step of a partial reload: takes what Redis has of some things out of its state, before Load brings what
-- Postgres has of them. It runs only under the rebuild's token and directly after the step before it.
--
-- KEYS  meta, log, stock, holds, due, due_skus, users, emails, limits, orders, codes, tiers, renewals, stats, recent_0, recent_1
-- ARGV  token, step_number, kind, then per thing: id
-- OK      1, or 0 when another rebuild took over or Redis lost a step
--
-- Kinds: skus, holds, orders, users, tiers; limits (`<user_id>:<sku>`); requests; log (all of it, without ids).
-- @include is_integer, bad_arguments, read_hold, read_order, leave_due

local function forget_record(field)
  redis.call("HDEL", recent_0, field)
  redis.call("HDEL", recent_1, field)
end
local function take_out(key, id, ...)
  local fields = {}
  for index, ending in ipairs({ ... }) do
    fields[index] = id .. ":" .. ending
  end
  redis.call("HDEL", key, unpack(fields))
end
local function forget_hold(id)
  local open = read_hold(id)
  if open then
    leave_due(open)
    take_out(holds, id, "user", "expire", "created", "lines")
  end
  forget_record("hold:" .. id)
end
local function forget_order(id)
  local waiting = read_order(id)
  if waiting then
    if waiting.expire then
      leave_due(waiting)
    end
    take_out(orders, id, "user", "expire", "created", "lines", "terms")
  end
  forget_record("order:" .. id)
end
-- What points to a user goes only where it does: another one may have the address by now.
local function forget_pointer(key, field, id)
  if field and field ~= "" and redis.call("HGET", key, field) == id then
    redis.call("HDEL", key, field)
  end
end
local function forget_user(id)
  local fields = redis.call("HMGET", users, id .. ":profile", id .. ":email", id .. ":sub")
  if not fields[1] then
    return
  end
  forget_pointer(emails, fields[2], id)
  forget_pointer(codes, string.match(fields[1], "^%d+ %d+ (%S*) "), id)
  redis.call("ZREM", renewals, id)
  redis.call("HINCRBY", stats, "tier:" .. (fields[3] and string.match(fields[3], "^%S+") or "free"), "-1")
  take_out(users, id, "balance", "credits", "purchases", "profile", "email", "sub")
end
local forget = {
  skus = function(id) take_out(stock, id, "available", "held", "sold", "price", "terms", "created", "sales", "loading") end,
  holds = forget_hold,
  orders = forget_order,
  users = forget_user,
  tiers = function(id) take_out(tiers, id, "terms") end,
  limits = function(id) redis.call("HDEL", limits, id) end,
  requests = function(id) forget_record("request:" .. id) end,
  log = function() end,
}

if not is_integer(step_number, 0, 9007199254740991) or not forget[kind] or (#ARGV < rest) ~= (kind == "log") then
  return bad_arguments("step_number, kind or ids")
end
local at = redis.call("HMGET", meta, "token", "loaded")
if at[1] ~= token or at[2] ~= step_number then
  return 0
end
if kind == "log" then
  redis.call("UNLINK", log)
end
for index = rest, #ARGV do
  forget[kind](ARGV[index])
end
redis.call("HSET", meta, "loaded", string.format("%d", step_number + 1))
return 1
