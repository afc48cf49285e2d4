-- remember_order: notes in the recent memory that the commit just made changed an order: "<created at> <changed at>".
-- @include state, remember, integer
local function remember_order(item)
  remember("order:" .. item.id, item.created_at .. " " .. integer(position))
end
