#!lua
-- CreateUser: creates a user with 100 credits on the tier free; somebody else's referral code adds 200, and gives its owner 500.
--
-- KEYS  meta, log, users, emails, codes, stats, recent_0, recent_1
-- ARGV  (call), user_id, email_key ("" = none; trimmed and lower-cased), private_json (e-mail and name, kept out of the events), own_referral_code, referral_code (of the referrer; "" = none), require_referral (1 = not without one)
-- OK      events
-- REFUSES EMAIL_TAKEN, REFERRAL_CODE_TAKEN, REFERRAL_INVALID, BALANCE_LIMIT   (an existing id answers with its creation)
-- EVENTS  user_created, referral_rewarded (with a code that somebody has)
-- @include begin, read_user, read_user_tier, profile_text, user_json, commit, accepted, remember, refuse, integer

if user_id == "" or not private_json or private_json == "" or not string.find(own_referral_code, "^[%w._-]+$")
  or not referral_code or (require_referral ~= "0" and require_referral ~= "1") then
  return bad_arguments("user_id, private_json, own_referral_code, referral_code or require_referral")
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
-- Nobody has the empty code.
local owners = redis.call("HMGET", codes, own_referral_code, referral_code)
if owners[1] then
  return refuse("REFERRAL_CODE_TAKEN", { "own_referral_code", own_referral_code })
end
local referrer = owners[2] and read_user(owners[2])
if not referrer and require_referral == "1" then
  return refuse("REFERRAL_INVALID", { "referral_code", referral_code })
end
if referrer and referrer.credits + 500 > 9007199254740991 then
  return refuse("BALANCE_LIMIT", { "user_id", referrer.id, "credits", integer(referrer.credits), "granted_credits", "500" })
end

-- From here on the call must succeed.
local at = position + 1
local made = {
  id = user_id, created_at = integer(at), balance = 0, credits = referrer and 300 or 100, tier = "free", referral_code = own_referral_code,
  referred_by = referrer and referrer.id or "", referral_count = 0, order_count = 0, lifetime_value = 0, created_ms = now, updated_ms = now,
}
local events = string.format('[{"user_created":{"user":%s,"referral_applied":%s}}', user_json(made, at), referrer and "true" or "false")
if referrer then
  read_user_tier(referrer)
  referrer.credits, referrer.referral_count, referrer.updated_ms = referrer.credits + 500, referrer.referral_count + 1, now
  events = string.format('%s,{"referral_rewarded":{"user":%s,"credits":500,"referred_user_id":"%s"}}', events, user_json(referrer, at), user_id)
end
events = events .. "]"

commit(commit_id, call, events, private_json)
local fields = { user_id .. ":credits", integer(made.credits), user_id .. ":profile", profile_text(made) }
local function write(field, value)
  fields[#fields + 1], fields[#fields + 2] = field, value
end
if email_key ~= "" then
  redis.call("HSET", emails, email_key, user_id)
  write(user_id .. ":email", email_key)
end
if referrer then
  write(referrer.id .. ":credits", integer(referrer.credits))
  write(referrer.id .. ":profile", profile_text(referrer))
end
redis.call("HSET", users, unpack(fields))
redis.call("HSET", codes, own_referral_code, user_id)
redis.call("HINCRBY", stats, "users", "1")
redis.call("HINCRBY", stats, "tier:free", "1")
remember("request:" .. request_id, at)
return accepted(events)
