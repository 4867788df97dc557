"""Django's PostgreSQL backend on psycopg's async connections.

    DATABASES = {"default": {"ENGINE": "async_postgres", "NAME": "shop", "OPTIONS": {"pool": True}}}

Everything above the driver is Django's own. It runs where `greenprof.greenhack` runs sync code: in functions
that `as_async` made of plain ones, and after `start_loop()`.
"""
