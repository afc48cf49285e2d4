-- is_record: whether what a caller read of an order in Postgres is what it has to be: see find_order.
-- @include is_integer
local function is_record()
  return record ~= nil and is_integer(as_of_position, 0, 9007199254740991)
    and (record == "" or record == "null" or string.sub(record, 1, 1) == "{")
end
