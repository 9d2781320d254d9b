"""What the workflows of the suite write."""

from django.db import models


class Row(models.Model):
    """Something a transaction wrote: there is one for each time it was committed."""

    name = models.CharField(max_length=255)
    payload = models.TextField(blank=True)
    pid = models.IntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Effect(models.Model):
    """One run of a step's body, seen from outside: which process ran it, in which attempt."""

    key = models.CharField(max_length=255)
    pid = models.IntegerField()
    attempt = models.IntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.key} (attempt {self.attempt}, process {self.pid})"


class Product(models.Model):
    """What the documentation's examples sell."""

    name = models.CharField(max_length=100)
    stock = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What the documentation's examples work on."""

    product = models.ForeignKey(Product, models.CASCADE)
    quantity = models.IntegerField(default=1)
    status = models.CharField(max_length=20, default="placed")
    payment = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"
