"""Orders by Django REST framework, as its tutorial would have them."""

from __future__ import annotations

from rest_framework import serializers, viewsets

from delivery.models import Order


class OrderSerializer(serializers.ModelSerializer):
    customer_name = serializers.CharField(source="customer.name", read_only=True)

    class Meta:
        model = Order
        fields = ("id", "customer", "customer_name", "dish", "status", "minutes", "placed_at")


class Orders(viewsets.ModelViewSet):
    queryset = Order.objects.select_related("customer")
    serializer_class = OrderSerializer
