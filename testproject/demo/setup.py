"""What the demo needs in its database: tables, a login for the console, products, sample orders."""

from decimal import Decimal

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError

from testproject.shop.models import Order, Product
from testproject.shop.workflows import FULL, fill_up, place_order

from .processes import DemoFailed

LOGIN = PASSWORD = "admin"  # only here: nobody but this machine can reach the site

PRODUCTS = {
    "teapot": ("Teapot", "24.90", 12),
    "lamp": ("Lamp", "59.00", 9),
    "chair": ("Chair", "129.00", 15),
    "bicycle": ("Bicycle", "899.00", 6),
}
#: So many of each are enough for the orders below, also in a database that has seen many a demo.
ENOUGH = 6
#: More than there will ever be.
TOO_MANY = 99


def prepare() -> None:
    """Tables, login and products; what is there already stays, but what runs low is filled up."""
    try:
        call_command("migrate", verbosity=0, interactive=False)
    except DatabaseError as error:
        raise DemoFailed(f"the database cannot be used: {error}") from error
    users = get_user_model().objects
    if not users.filter(username=LOGIN).exists():
        users.create_superuser(username=LOGIN, email="admin@example.com", password=PASSWORD)
    for slug, (name, price, stock) in PRODUCTS.items():
        Product.objects.get_or_create(slug=slug, defaults={"name": name, "price": Decimal(price), "stock": stock})
    fill_up(ENOUGH, FULL)


def place_orders() -> dict[int, str]:
    """Eight orders of eight buyers; the status that each has to end with, by the order's id."""
    done, declined, sold_out = Order.Status.DONE, Order.Status.DECLINED, Order.Status.SOLD_OUT
    wishes = [
        ("teapot", 1, done),
        ("lamp", 2, done),
        ("chair", 4, declined),
        ("bicycle", 1, done),
        ("teapot", 3, done),
        ("bicycle", TOO_MANY, sold_out),
        ("chair", 2, done),
        ("lamp", 1, done),
    ]
    expected = {}
    for number, (slug, quantity, status) in enumerate(wishes, 1):
        card = Order.Card.DECLINED if status == declined else Order.Card.GOOD
        order = place_order(Product.objects.get(slug=slug), quantity, f"buyer{number}@example.com", card)
        expected[order.pk] = str(status)
    return expected
