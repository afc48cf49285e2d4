"""Buys from Holdfast and watches it, with stubs that protoc made of its contract.

usage: buy_and_watch.py [--target 127.0.0.1:50051] [--stubs FOLDER]

It sells in a shop of its own, so it can be run as often as one likes. Exit code 1: something was not as expected.
"""

import argparse
import pathlib
import sys
import uuid

arguments = argparse.ArgumentParser(description="Buys from Holdfast and watches it.")
arguments.add_argument("--target", default="127.0.0.1:50051", help="host:port of the gRPC door")
arguments.add_argument("--stubs", default=str(pathlib.Path(__file__).parent / "stubs"), help="where make-stubs.sh put them")
options = arguments.parse_args()
sys.path.insert(0, options.stubs)

import grpc
from google.rpc import error_details_pb2, status_pb2
from holdfast.v1 import (
    admin_service_pb2 as admin,
    admin_service_pb2_grpc,
    event_service_pb2 as events,
    event_service_pb2_grpc,
    inventory_service_pb2 as inventory,
    inventory_service_pb2_grpc,
    order_service_pb2 as orders,
    order_service_pb2_grpc,
    resources_pb2 as resources,
    user_service_pb2 as users,
    user_service_pb2_grpc,
)

# A unary call without a deadline gets 5 s from the server; a caller should set its own.
DEADLINE_S = 5


class Refused(Exception):
    """A refusal of Holdfast: the one ErrorInfo of the error, and what came with it."""

    def __init__(self, error):
        super().__init__(error.details())
        self.code = error.code()
        self.reason, self.metadata, self.violations, self.retry_s = "", {}, [], None
        for detail in details_of(error):
            if isinstance(detail, error_details_pb2.ErrorInfo):
                self.reason, self.metadata = detail.reason, dict(detail.metadata)
            elif isinstance(detail, error_details_pb2.PreconditionFailure):
                self.violations = [f"{each.type} {each.subject}" for each in detail.violations]
            elif isinstance(detail, error_details_pb2.BadRequest):
                self.violations = [f"{each.field}: {each.description}" for each in detail.field_violations]
            elif isinstance(detail, error_details_pb2.RetryInfo):
                self.retry_s = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9


def details_of(error):
    """The messages in the trailer `grpc-status-details-bin`; what is of an unknown type is left out."""
    known = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.PreconditionFailure,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
        )
    }
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                kind = known.get(packed.type_url.rsplit("/", 1)[-1])
                if kind is not None:
                    yield kind.FromString(packed.value)


def call(rpc, request):
    """Calls once. A caller that gets no answer repeats the call with the same request id."""
    try:
        return rpc(request, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        raise Refused(error) from error


def refusal_of(rpc, request):
    """The refusal of a call that is expected to be refused."""
    try:
        answer = call(rpc, request)
    except Refused as refused:
        return refused
    raise AssertionError(f"not refused: {answer}")


def require(condition, what):
    if not condition:
        raise AssertionError(what)


def watch(stub, shop_id, position, commit_id, count):
    """Commits after a position until there are `count`, or until all that is durable was seen."""
    request = events.WatchEventsRequest(shop_id=shop_id, after_position=position, after_commit_id=commit_id)
    stream = stub.WatchEvents(request)
    seen = []
    try:
        for response in stream:
            kind = response.WhichOneof("message")
            if kind == "batch":
                seen.append(response.batch)
            if kind == "caught_up" or len(seen) == count:
                return seen
    finally:
        stream.cancel()
    return seen


def buy(channel, shop_id):
    inventory_stub = inventory_service_pb2_grpc.InventoryServiceStub(channel)
    order_stub = order_service_pb2_grpc.OrderServiceStub(channel)
    user_stub = user_service_pb2_grpc.UserServiceStub(channel)

    admin_stub = admin_service_pb2_grpc.AdminServiceStub(channel)

    call(admin_stub.CreateShop, admin.CreateShopRequest(shop_id=shop_id, currency_code="USD"))
    call(
        inventory_stub.PutProduct,
        inventory.PutProductRequest(shop_id=shop_id, sku="ps5", title="Console", price_minor=49900),
    )
    call(
        inventory_stub.AdjustStock,
        inventory.AdjustStockRequest(shop_id=shop_id, sku="ps5", delta_count=3, reason=resources.ADJUST_REASON_INITIAL),
    )
    call(user_stub.CreateUser, users.CreateUserRequest(shop_id=shop_id, user_id="ann", email="ann@example.com"))
    call(user_stub.DepositFunds, users.DepositFundsRequest(shop_id=shop_id, user_id="ann", amount_minor=200000))

    two = [resources.CartLine(sku="ps5", quantity=2)]
    request = orders.PlaceOrderRequest(shop_id=shop_id, request_id=str(uuid.uuid4()), user_id="ann", lines=two)
    placed = call(order_stub.PlaceOrder, request)
    require(placed.order.state == resources.ORDER_STATE_PAID, "the order is paid from the wallet")
    print(f"bought 2 for {placed.order.amount_minor}, {placed.balance_minor} left, at position {placed.commit.position}")

    again = call(order_stub.PlaceOrder, request)
    require(again.commit.replayed and again.order == placed.order, "the same request id is the same order")
    print(f"sent again: replayed, {again.balance_minor} left")

    sold_out = refusal_of(order_stub.PlaceOrder, orders.PlaceOrderRequest(shop_id=shop_id, user_id="ann", lines=two))
    require(sold_out.code == grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    require(sold_out.violations == ["SOLD_OUT sku:ps5"] and sold_out.retry_s is None, "one violation, nothing to wait for")
    print(f"refused: {sold_out.reason}, {sold_out.metadata['available_count']} available")

    one = [resources.CartLine(sku="ps5", quantity=1)]
    held = call(inventory_stub.HoldStock, inventory.HoldStockRequest(shop_id=shop_id, user_id="ann", lines=one))
    held_out = refusal_of(order_stub.PlaceOrder, orders.PlaceOrderRequest(shop_id=shop_id, user_id="ann", lines=one))
    require(held_out.violations == ["HELD_OUT sku:ps5"], "the violation names the SKU")
    require(held_out.retry_s is not None and 1 <= held_out.retry_s <= 60, "RetryInfo says when to try again")
    print(f"refused: {held_out.reason}, {held_out.metadata['held_count']} held; try again within a minute")

    none = [resources.CartLine(sku="ps5", quantity=0)]
    bad = refusal_of(inventory_stub.HoldStock, inventory.HoldStockRequest(shop_id=shop_id, lines=none))
    require(bad.code == grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    require(any(each.startswith("lines[0].quantity") for each in bad.violations), "BadRequest names the field")
    print(f"refused: {bad.reason}, {len(bad.violations)} field")
    return held.commit


def follow(channel, shop_id, last):
    stub = event_service_pb2_grpc.EventServiceStub(channel)
    seen = watch(stub, shop_id, 0, "", 4)
    # What a caller stores to go on where it stopped, also after it was restarted.
    position, commit_id = seen[-1].position, seen[-1].commit_id
    print(f"watched {len(seen)} commits, stopped at position {position}")
    seen += watch(stub, shop_id, position, commit_id, last.position)
    require([each.position for each in seen] == list(range(1, last.position + 1)), "every position once, in order")
    require(seen[-1].commit_id == last.commit_id, "the last commit is the hold")
    names = [event.WhichOneof("payload") for each in seen for event in each.events]
    require(names[0] == "shop_created" and names[-2:] == ["order_placed", "stock_held"], f"the events: {names}")
    print(f"resumed: {', '.join(names[4:])}")

    other = events.WatchEventsRequest(shop_id=shop_id, after_position=position, after_commit_id=last.commit_id)
    try:
        next(iter(stub.WatchEvents(other)))
    except grpc.RpcError as error:
        print(f"refused: {Refused(error).reason}")
    else:
        raise AssertionError("a position with another commit was accepted")


def main():
    shop_id = f"python-{uuid.uuid4().hex[:12]}"
    with grpc.insecure_channel(options.target) as channel:
        follow(channel, shop_id, buy(channel, shop_id))
    print("all as expected")


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, Refused, grpc.RpcError) as error:
        sys.exit(f"not as expected: {error}")
