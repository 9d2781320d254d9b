"""
What happens to an order, as one durable workflow; and the stock, which a schedule fills up.

A ``@transaction`` commits together with its own checkpoint, so it happens once. A ``@step`` talks to the world
outside, so it may be tried again: the payment carries an idempotency key, the other steps can be repeated.
"""

import time
from datetime import datetime

from django.core.mail import EmailMessage
from django.db.models import F
from django.db.transaction import atomic

from django_dbos import Queue, SetWorkflowID, scheduled, step, transaction, workflow

from .ledger import counted
from .mail import ORDER_HEADER
from .models import Order, Product, ShippingEvent, StockMovement
from .payments import PaymentRefused, request_payment

#: Orders that are worked on at a time, in one worker.
AT_A_TIME = 4
#: What is left of a product when more of it is ordered from the factory, and how many there are then.
LOW, FULL = 5, 20

orders = Queue("orders", worker_concurrency=AT_A_TIME)


class OutOfStock(Exception):
    """There is less left than was ordered."""


def place_order(product: Product, quantity: int, email: str, card: str = Order.Card.GOOD) -> Order:
    """Take an order. Its row and its workflow are one commit: there is never one without the other."""
    with atomic():
        order = Order.objects.create(
            product=product, quantity=quantity, email=email, card=card, total=product.price * quantity
        )
        with SetWorkflowID(order.workflow_id):
            orders.enqueue(buy, order.pk)
    return order


@workflow
def buy(order_id: int) -> str:
    """From an order to a parcel; returns the order's last status."""
    try:
        reserve_stock(order_id)
    except OutOfStock:
        return close_order(order_id, Order.Status.SOLD_OUT)
    try:
        reference = charge(order_id)
    except PaymentRefused:
        release_stock(order_id)
        return close_order(order_id, Order.Status.DECLINED)
    pick(order_id)
    pack(order_id)
    hand_over(order_id)
    send_confirmation(order_id, reference)
    return close_order(order_id, Order.Status.DONE)


@transaction
@counted
def reserve_stock(order_id: int) -> None:
    """Put the goods aside. Raises OutOfStock."""
    order = Order.objects.get(pk=order_id)
    taken = Product.objects.filter(pk=order.product_id, stock__gte=order.quantity).update(
        stock=F("stock") - order.quantity
    )
    if not taken:
        raise OutOfStock(f"There are no {order.quantity} of {order.product} left.")
    StockMovement.objects.create(product=order.product, order=order, quantity=-order.quantity, reason="reserved")
    _set_status(order_id, Order.Status.RESERVED)


@step(
    retries_allowed=True,
    max_attempts=20,
    interval_seconds=0.5,
    max_interval_seconds=5,
    should_retry=lambda error: not isinstance(error, PaymentRefused),
)
@counted
def charge(order_id: int) -> str:
    """Charge the buyer over HTTP; returns the reference. Raises PaymentRefused."""
    order = Order.objects.get(pk=order_id)
    reference = request_payment(order, idempotency_key=order.workflow_id)
    _set_status(order_id, Order.Status.PAID)
    return reference


@transaction
@counted
def release_stock(order_id: int) -> None:
    """Put the goods back: nobody will pay for them."""
    order = Order.objects.get(pk=order_id)
    Product.objects.filter(pk=order.product_id).update(stock=F("stock") + order.quantity)
    StockMovement.objects.create(product=order.product, order=order, quantity=order.quantity, reason="released")


@step
@counted
def pick(order_id: int) -> None:
    """Fetch the goods from the shelf."""
    _ship(order_id, "picked")


@step
@counted
def pack(order_id: int) -> None:
    """Put them into a box."""
    _ship(order_id, "packed")


@step
@counted
def hand_over(order_id: int) -> None:
    """Give the box to the carrier."""
    _ship(order_id, "handed over")
    _set_status(order_id, Order.Status.SHIPPED)


@step
@counted
def send_confirmation(order_id: int, reference: str) -> None:
    """Tell the buyer."""
    order = Order.objects.select_related("product").get(pk=order_id)
    EmailMessage(
        subject=f"Your {order.product.name.lower()} is on its way",
        body=f"Thank you! {order.quantity} x {order.product}, {order.total} paid ({reference}).",
        to=[order.email],
        headers={ORDER_HEADER: str(order.pk)},
    ).send()


@transaction
@counted
def close_order(order_id: int, status: str) -> str:
    """Say how the order ended."""
    _set_status(order_id, status)
    return str(status)


@scheduled("* * * * *")
@workflow
def restock(scheduled_at: datetime, started_at: datetime) -> list[str]:
    """Every minute: fill up what runs low; returns what that was."""
    return fill_up(LOW, FULL)


@transaction
def fill_up(low: int, full: int) -> list[str]:
    """Bring every product of which fewer than ``low`` are left to ``full``; returns their names."""
    names = []
    for product in Product.objects.select_for_update().filter(stock__lt=low):
        StockMovement.objects.create(product=product, quantity=full - product.stock, reason="restocked")
        product.stock = full
        product.save(update_fields=["stock"])
        names.append(product.name)
    return names


def _ship(order_id: int, leg: str) -> None:
    """About a second of somebody's work."""
    time.sleep(1)
    ShippingEvent.objects.get_or_create(order_id=order_id, leg=leg)


def _set_status(order_id: int, status: str) -> None:
    Order.objects.filter(pk=order_id).update(status=status)
