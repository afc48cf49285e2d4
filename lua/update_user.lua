#!lua
-- UpdateUser: gives a user another e-mail, another display name, or both; what is absent stays.
--
-- KEYS  meta, log, users, emails, recent_0, recent_1
-- ARGV  (call), user_id, has_email (1 = the e-mail changes), email_key ("" = none; trimmed and lower-cased), private_json (what changes of e-mail and name, kept out of the events)
-- OK      events
-- REFUSES USER_NOT_FOUND, EMAIL_TAKEN
-- EVENTS  user_updated
-- @include begin, read_user, read_user_tier, user_json, commit, accepted, remember, refuse, integer

if user_id == "" or (has_email ~= "0" and has_email ~= "1") or not email_key or not private_json or private_json == "" then
  return bad_arguments("user_id, has_email, email_key or private_json")
end
local reply = begin()
if reply then
  return reply
end
local named = read_user(user_id)
if not named then
  return refuse("USER_NOT_FOUND", { "user_id", user_id })
end
local owner = has_email == "1" and email_key ~= "" and redis.call("HGET", emails, email_key)
if owner and owner ~= user_id then
  return refuse("EMAIL_TAKEN", {})
end

-- From here on the call must succeed.
local at = position + 1
named.updated_ms = now
local events = '[{"user_updated":{"user":' .. user_json(read_user_tier(named), at) .. "}}]"
local old_key = has_email == "1" and redis.call("HGET", users, user_id .. ":email")

commit(commit_id, call, events, private_json)
if old_key and old_key ~= email_key then
  redis.call("HDEL", emails, old_key)
  redis.call("HDEL", users, user_id .. ":email")
end
if has_email == "1" and email_key ~= "" then
  redis.call("HSET", emails, email_key, user_id)
  redis.call("HSET", users, user_id .. ":email", email_key)
end
remember("request:" .. request_id, at)
return accepted(events)
