"""Addresses of the shop."""

from django.urls import path

from . import payments, views

app_name = "shop"

urlpatterns = [
    path("", views.front, name="front"),
    path("now/", views.now, name="now"),
    path("buy/", views.buy, name="buy"),
    path("orders/<int:order_id>/", views.order, name="order"),
    path("orders/<int:order_id>/steps/", views.order_steps, name="order_steps"),
    path("crash/", views.crash, name="crash"),
    path("payments/", payments.pay, name="pay"),
]
