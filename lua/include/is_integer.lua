-- is_integer: whether a text is a decimal integer between two bounds, written the one way that JSON takes too (tonumber also
-- reads " 7", "07", "7.0", "7e3" and "0x7"); the way every script asserts its numbers.
local function is_integer(text, least, most)
  if text ~= "0" and not (text and string.find(text, "^%-?[1-9]%d*$")) then
    return false
  end
  local number = text + 0
  return number >= least and number <= most
end
