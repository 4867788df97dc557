"""Runs Django's own tests of its database layer on Django's backend and on async_postgres, and compares.

    python django_suite.py                      all of MODULES: a few minutes
    python django_suite.py basic transactions   these

The tests come from the sdist of the Django that is installed, which pip downloads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import django
import psycopg

from database import running_postgres

FOLDER = Path(__file__).parent
ENGINES = ("django.db.backends.postgresql", "async_postgres")
MODULES = """
    aggregation aggregation_regress annotations async backends basic bulk_create cache
    composite_pk constraints contenttypes_tests custom_columns custom_lookups custom_managers
    custom_pk datatypes dates datetimes db_typecasts db_utils defer defer_regress delete
    delete_regress distinct_on_fields empty expressions expressions_case expressions_window
    extra_regress field_subclassing filtered_relation fixtures fixtures_regress
    force_insert_update foreign_object from_db_value generic_relations generic_relations_regress
    get_earliest_or_latest get_object_or_404 get_or_create indexes inspectdb introspection
    known_related_objects lookup m2m_and_m2o m2m_intermediary m2m_multiple m2m_recursive
    m2m_regress m2m_signals m2m_through m2m_through_regress m2o_recursive managers_regress
    many_to_many many_to_one many_to_one_null max_lengths migrate_signals migrations model_fields
    model_formsets model_inheritance model_inheritance_regress model_indexes model_regress
    model_utils multiple_database mutually_referential nested_foreign_keys null_fk
    null_fk_ordering null_queries one_to_one or_lookups order_with_respect_to ordering pagination
    prefetch_related properties proxy_models queries queryset_pickle raw_query reserved_names
    reverse_lookup save_delete_hooks schema select_for_update select_related
    select_related_onetoone select_related_regress serializers sessions_tests signals sites_tests
    string_lookup timezones transaction_hooks transactions unmanaged_models update
    update_only_fields validation xor_lookups
""".split()  # noqa: SIM905 - a line of quotes and commas for each would read no better


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("--server", metavar="URL", help="a PostgreSQL server of yours")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="django-suite-")))
        server = arguments.server or stack.enter_context(running_postgres())
        add_collation(server)
        script = downloaded_tests(scratch) / "runtests.py"
        # Side by side: each has databases of its own.
        workers = [
            started(engine, script, arguments.modules, server, scratch) for engine in ENGINES
        ]
        for worker in workers:
            worker.wait()
        theirs, ours = (outcomes(engine, scratch) for engine in ENGINES)
    return compared(theirs, ours)


def downloaded_tests(scratch: Path) -> Path:
    """The tests of the Django that is installed."""
    name = f"django=={django.get_version()}"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", scratch, name], check=True
    )
    [sdist] = scratch.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    [tests] = scratch.glob("*/tests")
    return tests


def add_collation(server: str) -> None:
    """Some models of the suite want a collation by this name, which servers without ICU have not."""
    template = server.rpartition("/")[0] + "/template1"
    with psycopg.connect(template, autocommit=True) as connection:
        known = connection.execute("select 1 from pg_collation where collname = 'sv-x-icu'")
        if known.fetchone() is None:
            connection.execute("create collation \"sv-x-icu\" (locale = 'C')")


def started(
    engine: str, script: Path, modules: Iterable[str], server: str, scratch: Path
) -> subprocess.Popen[bytes]:
    with (scratch / f"{engine}.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", FOLDER / "suite_worker.py", script),
                *("--settings=suite_worker", "--parallel=1", "--noinput", *modules),
            ],
            cwd=script.parent,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    filter(None, (str(FOLDER), os.environ.get("PYTHONPATH")))
                ),
                "SUITE_ENGINE": engine,
                "SUITE_OUTCOMES": str(scratch / f"{engine}.json"),
                "SUITE_SERVER": server,
            },
        )


def outcomes(engine: str, scratch: Path) -> dict[str, str]:
    written = scratch / f"{engine}.json"
    if not written.exists():
        log = (scratch / f"{engine}.log").read_text(errors="replace")
        raise SystemExit(f"the suite did not run on {engine}:\n{log[-4000:]}")
    found: dict[str, str] = json.loads(written.read_text(encoding="utf-8"))
    return found


def compared(theirs: dict[str, str], ours: dict[str, str]) -> int:
    """Prints what differs; 1 if less than 97 % of what passes on Django's backend passes on ours."""
    passed = [test for test, outcome in theirs.items() if outcome == "passed"]
    kept = [test for test in passed if ours.get(test) == "passed"]
    modules = Counter(test.partition(".")[0] for test in passed)
    kept_of = Counter(test.partition(".")[0] for test in kept)
    print(
        f"Django {django.get_version()}, psycopg {psycopg.__version__}, Python {sys.version.split()[0]}"
    )
    print(f"{'':32}{'Django':>8}{'async':>8}")
    for module in sorted(modules):
        print(f"{module:32}{modules[module]:8}{kept_of[module]:8}")
    print(f"{'passed':32}{len(passed):8}{len(kept):8}  {len(kept) / max(1, len(passed)):.2%}")
    skipped = sum(1 for outcome in theirs.values() if outcome == "skipped")
    print(
        f"On both alike: {skipped} skipped, {len(theirs) - len(passed) - skipped} failed on Django's."
    )
    for test in passed:
        if ours.get(test) != "passed":
            print(f"  {test}\n    {ours.get(test, 'not run')}")
    return 0 if len(kept) >= 0.97 * len(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
