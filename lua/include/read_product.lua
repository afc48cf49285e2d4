-- read_product: the levels and terms of one SKU, read once per run; nil when there is no such product.
local products = {}
local function read_product(sku)
  local known = products[sku]
  if known ~= nil then
    return known or nil
  end
  local fields = redis.call("HMGET", stock, sku .. ":available", sku .. ":held", sku .. ":sold", sku .. ":price", sku .. ":terms", sku .. ":sales")
  if not fields[1] then
    products[sku] = false
    return nil
  end
  -- `+ 0` reads a number in half the time of tonumber, which reads it twice.
  known = {
    sku = sku,
    available = fields[1] + 0,
    held = fields[2] + 0,
    sold = fields[3] + 0,
    price = fields[4] + 0,
    limit = 0,
    tracked = false,
    sale_start = 0,
    sale_end = 0,
    withdrawn = false,
    -- Whether it has no limit and no sale window, and is not withdrawn: most products, most of the time.
    plain = fields[5] == "",
    -- "<orders> <units> <revenue_minor>" of all orders that were ever paid; nil before the first.
    sales = fields[6] or nil,
  }
  -- Terms are "<max_per_user> <tracked> <sale_start ms> <sale_end ms> <withdrawn>", or empty when a product has none.
  if fields[5] ~= "" then
    local limit, tracked, sale_start, sale_end, withdrawn = string.match(fields[5], "^(%d+) (%d) (%d+) (%d+) (%d)$")
    known.limit, known.tracked = tonumber(limit), tracked == "1"
    known.sale_start, known.sale_end, known.withdrawn = tonumber(sale_start), tonumber(sale_end), withdrawn == "1"
  end
  products[sku] = known
  return known
end
