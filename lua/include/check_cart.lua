-- check_cart: whether every SKU of a cart can be served. Returns the refusal, or nil. Every failing SKU gets one violation,
-- its first reason in the order below; the refusal's own reason is the first of that order that occurs.
-- REFUSES PRODUCT_NOT_FOUND, USER_NOT_FOUND, NOT_ON_SALE, PRICE_CHANGED, PER_USER_LIMIT, SOLD_OUT, HELD_OUT
-- `needs_user`: a guest will not do. A limited SKU always needs a user.
-- @include state, read_product, read_buyer, integer, refuse, until_next_due, limit_violation, violation_details
local function cart_rank(reason)
  local ranks = { PRODUCT_NOT_FOUND = 1, NOT_ON_SALE = 3, PRICE_CHANGED = 4, PER_USER_LIMIT = 5, SOLD_OUT = 6, HELD_OUT = 7 }
  return ranks[reason]
end

local function cart_violation(line, unexpected, user)
  local item = read_product(line.sku)
  if not item then
    return { "PRODUCT_NOT_FOUND", "sku", line.sku }
  end
  if item.withdrawn then
    return { "NOT_ON_SALE", "sku", line.sku, "withdrawn", "true" }
  end
  if now < item.sale_start then
    return { "NOT_ON_SALE", "sku", line.sku, "sale_start_ms", integer(item.sale_start) }, item.sale_start - now
  end
  if item.sale_end > 0 and now >= item.sale_end then
    return { "NOT_ON_SALE", "sku", line.sku, "sale_end_ms", integer(item.sale_end) }
  end
  if unexpected[line.sku] then
    return { "PRICE_CHANGED", "sku", line.sku, "expected_minor", integer(unexpected[line.sku]), "price_minor", integer(item.price) }
  end
  local over = limit_violation(item, line.quantity, user)
  if over then
    return over
  end
  if item.available < line.quantity then
    local reason, retry_ms = "SOLD_OUT", nil
    if line.quantity <= item.available + item.held then
      reason, retry_ms = "HELD_OUT", until_next_due()
    end
    return { reason, "sku", line.sku, "requested_count", integer(line.quantity), "available_count", integer(item.available),
      "held_count", integer(item.held) }, retry_ms
  end
  return nil
end

-- The first price per SKU that a line expects and the product does not have.
local function unexpected_prices(lines)
  local unexpected = {}
  for index = 1, #lines do
    local line = lines[index]
    local item = line.expected and read_product(line.sku)
    if item and line.expected ~= item.price then
      unexpected[line.sku] = unexpected[line.sku] or line.expected
    end
  end
  return unexpected
end

local function check_cart(lines, asked, user, needs_user)
  local first, first_rank, first_retry_ms, violations = nil, math.huge, nil, {}
  local unexpected = unexpected_prices(lines)
  needs_user = needs_user or user ~= ""
  local limited_sku = nil
  for index = 1, #asked do
    local line = asked[index]
    local violation, retry_ms = cart_violation(line, unexpected, user)
    if violation then
      violations[#violations + 1] = violation
      local rank = cart_rank(violation[1])
      if rank < first_rank then
        first, first_rank, first_retry_ms = violation, rank, retry_ms
      end
    end
    local item = read_product(line.sku)
    if not limited_sku and item and item.limit > 0 then
      limited_sku = line.sku
    end
  end
  if first_rank > 1 and (needs_user or limited_sku) and not read_buyer(user) then
    return refuse("USER_NOT_FOUND", user == "" and limited_sku and { "user_id", "", "sku", limited_sku } or { "user_id", user })
  end
  if not first then
    return nil
  end
  return refuse(first[1], violation_details(first), first_retry_ms, violations)
end
