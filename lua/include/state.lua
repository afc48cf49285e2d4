-- state: what `open_meta` reads and `commit` moves on, shared by the functions of one run. `now` is in ms; `position` and
-- `last_commit_id` are the log's last entry; `bucket` is the half of the recent memory in use; ids older than `forgotten`
-- (ms; 0 = never) were let go; `turned` = the other half may hold something; `previous_commit_id` is the entry before the one
-- this run made (false: that has something private).
local now, position, last_commit_id, bucket, forgotten, turned, previous_commit_id
