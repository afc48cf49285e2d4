-- ended_hold: the reply for a hold that is not open any more: from the recent memory, else HOLD_NOT_FOUND.
-- States and what they answer: EXPIRED, COMMITTED refuse; RELEASED refuses too, except where `released_is_reached`.
-- @include state, recall, answer_from_log, refuse
local function ended_hold(id, released_is_reached)
  local remembered = recall("hold:" .. id)
  if not remembered then
    return refuse("HOLD_NOT_FOUND", { "hold_id", id })
  end
  local ended_at, hold_state = string.match(remembered, "^%d+ (%d+) (%u+)$")
  if hold_state == "RELEASED" and released_is_reached then
    return answer_from_log("EXISTS", ended_at)
  end
  return refuse("HOLD_" .. hold_state, { "hold_id", id })
end
