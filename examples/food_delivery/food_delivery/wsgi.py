"""The same project for a server of sync programs, in which every wait holds a thread: see compare.py."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "food_delivery.settings")
os.environ.setdefault("FOOD_DELIVERY_MODE", "blocking")

application = get_wsgi_application()
