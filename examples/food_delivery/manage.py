"""Django's command line, on the async database backend."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from greenprof import greenhack


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "food_delivery.settings")
    # Commands are sync code without an event loop; the database driver needs one to wait on.
    greenhack.start_loop()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
