-- due_member: the member of `due_skus` for one SKU of a hold or an unpaid order: "<sku>:<expiry, 16 digits>:<due id>", so that
-- what is due of one SKU is one range of the sorted set.
local function due_member(sku, expire, due_id)
  return string.format("%s:%016d:%s", sku, expire, due_id)
end
