#!lua
-- WithdrawFunds: takes money out of a user's wallet.
--
-- KEYS  meta, log, users, recent_0, recent_1
-- ARGV  (call), user_id, amount_minor, reference_json
-- OK      events
-- REFUSES USER_NOT_FOUND, INSUFFICIENT_FUNDS
-- EVENTS  funds_withdrawn
-- @include begin, read_user, read_user_tier, user_json, commit, accepted, remember, refuse, integer

if user_id == "" or not is_integer(amount_minor, 1, 9007199254740991) or reference_json == "" then
  return bad_arguments("user_id, amount_minor or reference_json")
end
local reply = begin()
if reply then
  return reply
end
local payee = read_user(user_id)
if not payee then
  return refuse("USER_NOT_FOUND", { "user_id", user_id })
end
local amount = tonumber(amount_minor)
if payee.balance < amount then
  return refuse("INSUFFICIENT_FUNDS", { "user_id", user_id, "required_minor", amount_minor, "balance_minor", integer(payee.balance) })
end

-- From here on the call must succeed.
local at = position + 1
payee.balance = payee.balance - amount
payee.updated_ms = now
local events = string.format('[{"funds_withdrawn":{"user":%s,"amount_minor":%d,"reference":%s}}]', user_json(read_user_tier(payee), at), amount, reference_json)

commit(commit_id, call, events)
redis.call("HSET", users, user_id .. ":balance", integer(payee.balance))
remember("request:" .. request_id, at)
return accepted(events)
