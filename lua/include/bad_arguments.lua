-- bad_arguments: the error for a caller inside Holdfast that broke a script's ARGV; nothing has been written yet.
local function bad_arguments(what)
  return redis.error_reply("BADARG " .. what)
end
