from __future__ import annotations

from django.contrib import admin

from delivery.models import Customer, Order

admin.site.register(Customer)


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "customer", "dish", "status", "minutes", "placed_at")
    list_filter = ("status",)
    list_select_related = ("customer",)
