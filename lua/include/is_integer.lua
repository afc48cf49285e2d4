-- is_integer: whether a text is a decimal integer between two bounds; the way every script asserts its numbers.
local function is_integer(text, least, most)
  local number = tonumber(text)
  return number ~= nil and number == math.floor(number) and number >= least and number <= most
end
