#!lua
-- CreateUser: creates a user with 100 credits on the tier free.
--
-- KEYS  meta, log, users, emails, recent_0, recent_1
-- ARGV  (call), user_id, email_key ("" = none; trimmed and lower-cased), private_json (e-mail and name, kept out of the events)
-- OK      events
-- REFUSES EMAIL_TAKEN   (an existing id answers with its creation)
-- EVENTS  user_created
-- @include begin, read_user, user_json, commit, accepted, remember, refuse, integer

if user_id == "" or not private_json or private_json == "" then
  return bad_arguments("user_id or private_json")
end
local reply = begin()
if reply then
  return reply
end
local existing = read_user(user_id)
if existing then
  return answer_from_log("EXISTS", existing.created_at)
end
if email_key ~= "" and redis.call("HEXISTS", emails, email_key) == 1 then
  return refuse("EMAIL_TAKEN", {})
end

-- From here on the call must succeed.
local at = position + 1
local made = { id = user_id, balance = 0, credits = 100, order_count = 0, lifetime_value = 0, created_ms = now, updated_ms = now }
local events = '[{"user_created":{"user":' .. user_json(made, at) .. "}}]"

commit(commit_id, call, events, private_json)
redis.call("HSET", users, user_id .. ":balance", "0", user_id .. ":credits", "100", user_id .. ":orders", "0", user_id .. ":lifetime", "0",
  user_id .. ":created", integer(at) .. " " .. integer(now))
if email_key ~= "" then
  redis.call("HSET", emails, email_key, user_id)
end
remember("request:" .. request_id, at)
return accepted(events)
