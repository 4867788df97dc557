"""Settings. What differs from one run to the next is said by environment variables."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import unquote, urlsplit

from django.core.management.utils import get_random_secret_key

from greenprof import greenhack

# "async", or "blocking" for servers of sync programs: the same views, whose waits then hold their threads.
MODE: Literal["async", "blocking"] = (
    "blocking" if os.environ.get("FOOD_DELIVERY_MODE") == "blocking" else "async"
)
greenhack.mode(MODE)

# Sessions end with the process where no key is given: better than one that everybody can read here.
SECRET_KEY = os.environ.get("FOOD_DELIVERY_SECRET_KEY") or get_random_secret_key()
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "delivery",
]
MIDDLEWARE = [
    "food_delivery.spans.span_of_request",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "food_delivery.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

_database = urlsplit(
    os.environ.get("FOOD_DELIVERY_DATABASE", "postgresql://postgres@127.0.0.1:5432/food_delivery")
)
DATABASES = {
    "default": {
        "ENGINE": "async_postgres" if MODE == "async" else "django.db.backends.postgresql",
        "NAME": unquote(_database.path.removeprefix("/")),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "HOST": _database.hostname or "",
        "PORT": str(_database.port or ""),
        "OPTIONS": {"pool": {"min_size": 2, "max_size": 20}},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

KITCHEN = os.environ.get("FOOD_DELIVERY_KITCHEN", "http://127.0.0.1:8001")

STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"

REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 20,
}
