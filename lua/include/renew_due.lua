-- renew_due: commits the end of a user's period when it is due. Returns the reply AGAIN when the next one is due as well, else
-- nil: whatever is answered afterwards rests on a committed renewal.
-- @include state, read_subscription, renew
local function renew_due(user)
  local sub = read_subscription(user)
  if is_renewed(sub) and sub.period_end <= now and renew({ user.id }) then
    return { "AGAIN", position, last_commit_id }
  end
  return nil
end
