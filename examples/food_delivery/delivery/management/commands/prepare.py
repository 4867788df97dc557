from __future__ import annotations

import argparse
import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from delivery.models import Customer


class Command(BaseCommand):
    help = "Makes the tables, some customers, and the admin's user, whose password is $FOOD_DELIVERY_ADMIN."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--customers", type=int, default=8)

    def handle(self, *_: Any, customers: int, **__: Any) -> None:
        call_command("migrate", verbosity=0)
        missing = range(Customer.objects.count() + 1, customers + 1)
        Customer.objects.bulk_create(Customer(name=f"Customer {number}") for number in missing)
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            # Without a password nobody can log in.
            users.create_superuser("admin", password=os.environ.get("FOOD_DELIVERY_ADMIN"))
