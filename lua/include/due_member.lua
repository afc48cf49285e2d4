-- due_member: the member of `due_skus` for one SKU of a hold: "<sku>:<expiry, 16 digits>:<hold id>", so that the due holds
-- of one SKU are one range of the sorted set.
local function due_member(sku, expire, id)
  return string.format("%s:%016d:%s", sku, expire, id)
end
