-- stock_json: a StockLevel as it stands in events.
local function stock_json(item)
  return string.format('{"sku":"%s","available_count":%.0f,"held_count":%.0f,"sold_count":%.0f,"price_minor":%.0f}',
    item.sku, item.available, item.held, item.sold, item.price)
end
