"""The Django application."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop."""

    name = "testproject.shop"
    label = "shop"
    verbose_name = "Shop"
