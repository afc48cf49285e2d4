#!lua flags=no-writes
-- Peek: where a shop stands, for the sweeper and for reads that only need a position.
--
-- KEYS  meta, due, renewals
-- OK      epoch ("" = sealed, loading or unknown), position, commit_id, next_due (ms; -1 = no hold), clock (ms), next_renewal (ms; -1 = none),
--         rest (estimate of what a rebuild under way still takes, ms; -1 = none is under way), flushed

local at = redis.call("HMGET", meta, "epoch", "position", "commit_id", "ready_time", "flushed")
local next_due = redis.call("ZRANGE", due, 0, 0, "WITHSCORES")
local next_renewal = redis.call("ZRANGE", renewals, 0, 0, "WITHSCORES")
local time = redis.call("TIME")
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local rest = at[4] and math.max(0, at[4] - clock) or -1
local flushed = tonumber(at[5] or 0)
return { at[1] or "", tonumber(at[2] or 0), at[3] or "", tonumber(next_due[2] or -1), clock, tonumber(next_renewal[2] or -1), rest, flushed }
