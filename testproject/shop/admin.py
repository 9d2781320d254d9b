"""The shop in the admin."""

from django.contrib import admin

from .models import Order, Payment, Product, SentEmail, StepRun, StockMovement

admin.site.register(Product, list_display=("name", "price", "stock"))
admin.site.register(
    Order,
    list_display=("id", "product", "quantity", "email", "total", "status", "created_at"),
    list_filter=("status",),
)
admin.site.register(StockMovement, list_display=("product", "quantity", "reason", "order", "created_at"))
admin.site.register(Payment, list_display=("reference", "order", "amount", "requests", "created_at"))
admin.site.register(SentEmail, list_display=("subject", "to", "order", "created_at"))
admin.site.register(StepRun, list_display=("workflow_id", "name", "pid", "started_at"), list_filter=("name",))
