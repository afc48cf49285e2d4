#!/usr/bin/env bash
# Sells with curl and JSON: a product, stock, a user with money, an order, the same order again, a refusal.
#
# usage: HOLDFAST_HTTP=http://127.0.0.1:8080 examples/curl.sh
#
# It sells in a shop of its own, so it can be run as often as one likes. Exit code 1: an answer was not the expected one.
set -euo pipefail

api=${HOLDFAST_HTTP:-http://127.0.0.1:8080}/holdfast.v1
shop=curl-$(date +%s)-$$

# call SERVICE/METHOD BODY [CURL ARGUMENT...]: prints the answer, and the HTTP status on a line of its own.
call() {
  local method=$1 body=$2
  shift 2
  curl --silent --show-error --max-time 10 --write-out '\n%{http_code}' \
    --header 'content-type: application/json' --data "$body" "$@" "$api.$method"
}

# expect WHAT STATUS TEXT... < ANSWER: shows the answer; stops unless it has the status and contains every text.
expect() {
  local what=$1 status=$2 answer text
  shift 2
  answer=$(cat)
  printf '%s\n%s\n\n' "== $what" "$answer"
  for text in "$@"; do
    if [[ ${answer##*$'\n'} != "$status" || $answer != *"$text"* ]]; then
      echo "expected status $status and $text" >&2
      exit 1
    fi
  done
}

call AdminService/CreateShop "{\"shop_id\":\"$shop\",\"currency_code\":\"USD\"}" |
  expect 'a shop' 200 '"currencyCode":"USD"'

call InventoryService/PutProduct "{\"shop_id\":\"$shop\",\"sku\":\"ps5\",\"title\":\"Console\",\"price_minor\":49900}" |
  expect 'a product' 200 '"priceMinor":"49900"'

call InventoryService/AdjustStock "{\"shop_id\":\"$shop\",\"sku\":\"ps5\",\"delta_count\":3,\"reason\":\"ADJUST_REASON_INITIAL\"}" |
  expect 'stock' 200 '"availableCount":"3"'

call UserService/CreateUser "{\"shop_id\":\"$shop\",\"user_id\":\"ann\",\"email\":\"ann@example.com\"}" |
  expect 'a user' 200 '"userId":"ann"'

call UserService/DepositFunds "{\"shop_id\":\"$shop\",\"user_id\":\"ann\",\"amount_minor\":200000,\"reference\":\"transfer 17\"}" |
  expect 'money' 200 '"balanceMinor":"200000"'

# The request id travels in the header idempotency-key; it could as well be the field request_id.
order="{\"shop_id\":\"$shop\",\"user_id\":\"ann\",\"lines\":[{\"sku\":\"ps5\",\"quantity\":2}]}"
call OrderService/PlaceOrder "$order" --header 'idempotency-key: "cart-17"' |
  expect 'an order' 200 '"state":"ORDER_STATE_PAID"' '"balanceMinor":"100200"' '"replayed":false' '"durable":true'

call OrderService/PlaceOrder "$order" --header 'idempotency-key: "cart-17"' |
  expect 'the same order again: one effect' 200 '"balanceMinor":"100200"' '"requestId":"cart-17"' '"replayed":true'

# A refusal: the gRPC status as `code`, the reason in google.rpc.ErrorInfo, whose readable form is under `debug`.
call OrderService/PlaceOrder "$order" --header 'idempotency-key: "cart-18"' |
  expect 'two more than there are: refused' 400 '"code":"failed_precondition"' 'google.rpc.ErrorInfo' '"reason":"SOLD_OUT"' \
    '"available_count":"1"'

call InventoryService/GetStock "{\"shop_id\":\"$shop\",\"sku\":\"ps5\"}" |
  expect 'what is left' 200 '"availableCount":"1"' '"soldCount":"2"'

echo "all as expected, in shop $shop"
