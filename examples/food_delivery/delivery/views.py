from __future__ import annotations

import httpx
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from delivery import browsers, kitchen
from delivery.models import Customer, Order
from greenprof.greenhack import as_async


def customer_page(request: HttpRequest, customer_id: int) -> HttpResponse:
    customer = get_object_or_404(Customer, pk=customer_id)
    orders = customer.orders.all()[:20]
    return render(request, "delivery/customer.html", {"customer": customer, "orders": orders})


@as_async
@require_POST
def food_delivery(request: HttpRequest, customer_id: int) -> HttpResponse:
    """Takes an order: three waits, of the database, the kitchen and a websocket, and no `await` to be seen."""
    customer = get_object_or_404(Customer, pk=customer_id)
    dish = request.POST.get("dish", "").strip()
    if not 0 < len(dish) <= 80:
        return JsonResponse({"error": "Which dish? Its name has 80 letters at most."}, status=400)
    order = Order(customer=customer, dish=dish)
    order.save()
    connection.close()  # back into the pool: others need it while the kitchen cooks
    try:
        answer = kitchen.post("/orders", json={"order": order.pk, "dish": dish})
    except httpx.TransportError as error:
        return JsonResponse(
            {"order": order.pk, "error": f"No word from the kitchen: {error}"}, status=502
        )
    if answer.status_code != 201:
        order.status = Order.Status.REFUSED
        order.save(update_fields=["status"])
        return JsonResponse({"order": order.pk, "error": kitchen.complaint(answer)}, status=502)
    order.status = Order.Status.COOKING
    order.minutes = answer.json()["minutes"]
    order.save(update_fields=["status", "minutes"])
    message = {"order": order.pk, "dish": dish, "minutes": order.minutes}
    browsers.notify(customer.pk, message)
    return JsonResponse(message, status=201)
