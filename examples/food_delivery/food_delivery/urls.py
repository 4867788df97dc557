"""Which address is whose."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import DefaultRouter

from delivery import views
from delivery.api import Orders

router = DefaultRouter()
router.register("orders", Orders)

urlpatterns = [
    path("customers/<int:customer_id>/", views.customer_page, name="customer"),
    path("customers/<int:customer_id>/orders/", views.food_delivery, name="order"),
    path("api/", include(router.urls)),
    path("admin/", admin.site.urls),
]
