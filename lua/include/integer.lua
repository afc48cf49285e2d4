-- integer: writes a number without an exponent or a decimal point; `..` and tostring keep 14 digits only.
local function integer(number)
  return string.format("%d", number)
end
