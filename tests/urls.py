"""Addresses the suite visits."""

from django.contrib import admin
from django.urls import path

from tests import views

urlpatterns = [
    path("views/pay/<int:number>/", views.pay),
    path("views/apay/<int:number>/", views.apay),
    path("views/upload/", views.upload),
    path("views/missing/", views.missing),
    path("views/atomic/", views.atomic),
    path("views/edit/", views.edit),
    path("views/held/", views.held),
    path("admin/", admin.site.urls),
]
