-- open_meta: reads where the shop stands and fixes the time of this run: Redis' clock, never before the last commit's.
-- Returns MISMATCH when the caller's epoch is not the shop's (a sealed or loading shop has none), else nil.
-- @include state
local function open_meta()
  local at = redis.call("HMGET", meta, "epoch", "position", "commit_id", "time", "bucket", "forgotten", "turn_time")
  if at[1] ~= epoch then
    return { "MISMATCH" }
  end
  position, last_commit_id, bucket, forgotten = at[2] + 0, at[3], at[5], at[6] + 0
  turned = at[7] ~= "0"
  local clock
  if clock_ms ~= "" then
    clock = tonumber(clock_ms)
  else
    local time = redis.call("TIME")
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  now = math.max(clock, at[4] + 0)
  return nil
end
