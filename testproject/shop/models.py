"""The shop's records, and a ledger that shows how often the code of every step really ran."""

from django.db import models
from django.db.models.functions import Now
from django.urls import reverse


class Product(models.Model):
    """Something to buy, and how many of it are left."""

    name = models.CharField(max_length=100, unique=True)
    slug = models.SlugField(unique=True)
    price = models.DecimalField(max_digits=9, decimal_places=2)
    stock = models.PositiveIntegerField()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What somebody wants. Its workflow moves it from one status to the next."""

    class Status(models.TextChoices):
        """Where an order stands."""

        PLACED = "placed"
        RESERVED = "reserved"
        PAID = "paid"
        SHIPPED = "shipped"
        DONE = "done"
        DECLINED = "declined"
        SOLD_OUT = "sold out"

    class Card(models.TextChoices):
        """What the bank will say."""

        GOOD = "good", "a good card"
        DECLINED = "declined", "a card that is declined"

    product = models.ForeignKey(Product, models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(default=1)
    email = models.EmailField()
    card = models.CharField(max_length=20, choices=Card.choices, default=Card.GOOD)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLACED)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"order {self.pk}"

    def get_absolute_url(self) -> str:
        """The page that shows its steps."""
        return reverse("shop:order", args=[self.pk])

    @property
    def workflow_id(self) -> str:
        """The id of its workflow: one order can have only one."""
        return f"order-{self.pk}"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (self.Status.DONE, self.Status.DECLINED, self.Status.SOLD_OUT)


class StockMovement(models.Model):
    """One change of a product's stock. Nothing here is unique: what happened twice would be seen twice."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="movements")
    order = models.ForeignKey(Order, models.CASCADE, related_name="movements", null=True, blank=True)
    quantity = models.IntegerField()
    reason = models.CharField(max_length=20)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.quantity:+} {self.reason}"


class Payment(models.Model):
    """What the payment service keeps: one charge per idempotency key, however often it was asked."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="payments")
    idempotency_key = models.CharField(max_length=255, unique=True)
    reference = models.CharField(max_length=40, unique=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    requests = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.reference


class ShippingEvent(models.Model):
    """A leg of an order's way to the buyer."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="shipping_events")
    leg = models.CharField(max_length=20)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("order", "leg"), name="shop_leg_of_order"),)

    def __str__(self) -> str:
        return self.leg


class SentEmail(models.Model):
    """A message that left the shop, see ``mail.EmailBackend``."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="emails", null=True, blank=True)
    to = models.CharField(max_length=254)
    subject = models.CharField(max_length=200)
    body = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.subject


class StepRun(models.Model):
    """
    One line of the ledger: the code of a step ran, in this process.

    A ``@step`` writes it at once, before it works, so there are as many lines as attempts. A ``@transaction`` writes
    it inside itself, so there are as many lines as commits. See ``ledger.counted``.
    """

    workflow_id = models.CharField(max_length=255, db_index=True)
    name = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.name} of {self.workflow_id} in {self.pid}"
