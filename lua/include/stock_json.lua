-- stock_json: a StockLevel as it stands in events.
local function stock_json(item)
  return string.format('{"sku":"%s","available_count":%d,"held_count":%d,"sold_count":%d,"price_minor":%d}',
    item.sku, item.available, item.held, item.sold, item.price)
end
