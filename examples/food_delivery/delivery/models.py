from __future__ import annotations

from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=80)

    def __str__(self) -> str:
        return str(self.name)


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        COOKING = "cooking"
        REFUSED = "refused"

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    dish = models.CharField(max_length=80)
    status = models.CharField(max_length=10, choices=Status, default=Status.PLACED)
    minutes = models.PositiveIntegerField("minutes until it is there", null=True, blank=True)
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.dish} for {self.customer}"
