-- renew_due: commits the end of a user's period when it is due. Returns the reply AGAIN when the next one is due as well, else
-- nil: whatever is answered afterwards rests on a committed renewal.
-- @include state, read_subscription, renew
local function renew_due(user)
  local sub = read_subscription(user)
  if not is_renewed(sub) or sub.period_end > now then
    return nil
  end
  if renew({ user.id }) then
    return { "AGAIN", position, last_commit_id }
  end
  -- The tier may cost nothing now: its period rolls on to the present one when it is read again.
  user.subscription = nil
  return nil
end
