-- cart_lines: reads the lines of a cart from the end of ARGV: sku, quantity, expected price ("" = any), three values a
-- line. Returns nil when a value is out of bounds.
-- @include is_integer
local function cart_lines(from)
  local lines = {}
  if (#ARGV - from + 1) % 3 ~= 0 or #ARGV - from + 1 > 300 then
    return nil
  end
  for index = from, #ARGV, 3 do
    local sku, quantity, expected = ARGV[index], ARGV[index + 1], ARGV[index + 2]
    if sku == "" or not is_integer(quantity, 1, 1000000) or (expected ~= "" and not is_integer(expected, 0, 9007199254740991)) then
      return nil
    end
    lines[#lines + 1] = { sku = sku, quantity = quantity + 0, expected = expected ~= "" and expected + 0 or nil }
  end
  return lines
end
