"""Prints, as Markdown, what large profiles cost to write and read: `python -m benchmarks.formats`.

Profiles of 1,000, 10,000 and 100,000 distinct stacks, with awaits, loop blockers and a timeline; each format in a
process of its own. Takes two minutes; needs the test extra.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import machine, put_into
from benchmarks.large import large_profile
from greenprof.differences import compare
from greenprof.exporters import exporters, find_exporter
from greenprof.exporters.difference import difference_text
from greenprof.exporters.html.difference import difference_page
from greenprof.profiles import Profile

KB, MB = 1_000, 1_000_000
SIZES, QUICK_SIZES = (1_000, 10_000, 100_000), (100, 1_000)
#: What is done with saved profiles beside writing them as something else.
ACTIONS = ("load", "merge two", "diff, as text", "diff, as HTML")
LIMIT_S = 300
Result = dict[str, Any]


def peak_bytes() -> int:
    """The most memory that the process has had since it was last asked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(line.split()[1]) * 1024


def give_back() -> None:
    """Give the memory back that reading the profile needed and that would be used again, not to be seen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def done(what: str, first: Path, second: Path) -> Result:
    """Do one thing once, and say what CPU time it took, what memory it took beside the profiles, and what came out."""
    job: Callable[[], str | bytes | Profile]
    if what == "load":
        job = _loading(first)
    else:
        profile = Profile.load(first)
        if what in ACTIONS:
            job = _action(what, profile, Profile.load(second))
        else:
            exporter = find_exporter(what)
            job = _rendering(what, profile)
            assert exporter.name == what
    gc.collect()
    give_back()
    peak_bytes()
    before = peak_bytes()
    started = time.process_time()
    found = job()
    taken_s = time.process_time() - started
    result: Result = {"s": taken_s, "peak": max(peak_bytes() - before, 0), "size": 0, "gzip": 0}
    if isinstance(found, Profile):
        return result
    data = found.encode() if isinstance(found, str) else found
    result["size"] = len(data)
    if isinstance(found, str):
        result["gzip"] = len(gzip.compress(data, 6))
    return result


def _loading(path: Path) -> Callable[[], Profile]:
    return lambda: Profile.load(path)


def _rendering(name: str, profile: Profile) -> Callable[[], str | bytes]:
    exporter = find_exporter(name)
    return lambda: exporter.render(profile)


def _action(what: str, one: Profile, other: Profile) -> Callable[[], str | Profile]:
    names = "before.gprof", "after.gprof"
    jobs: dict[str, Callable[[], str | Profile]] = {
        "merge two": lambda: Profile.merge([one, other]),
        "diff, as text": lambda: difference_text(compare(one, other), names),
        "diff, as HTML": lambda: difference_page(compare(one, other), names),
    }
    return jobs[what]


def measured(what: str, first: Path, second: Path) -> Result:
    """The same, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.formats", "--one", what, str(first), str(second)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}")
    found: Result = json.loads(ended.stdout)
    return found


def lines(sizes: tuple[int, ...], say: Callable[[str], None]) -> Iterator[str]:
    """The figures, as Markdown."""
    names = [exporter.name for exporter in exporters()]
    found: dict[int, dict[str, Result]] = {}
    about = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            paths = Path(folder, f"{size}.gprof"), Path(folder, f"{size}-after.gprof")
            for seed, path in enumerate(paths, start=1):
                profile = large_profile(size, seed, events=True)
                profile.save(path)
                if seed == 1:
                    about.append(
                        f"{size:,} stacks: {len(profile.nodes):,} nodes, {len(profile.samples):,} samples, "
                        f"{len(profile.awaits):,} lines that await, {len(profile.blocks):,} loop blockers, "
                        f"{len(profile.slices):,} slices"
                    )
            for name in (*names, *ACTIONS):
                say(f"{size:,} {name}")
                found.setdefault(size, {})[name] = measured(name, *paths)
    yield f"{machine()}. {'; '.join(about)}."
    yield ""
    most = sizes[-1]
    heads = [f"{size:,} stacks: written in | size" for size in sizes]
    yield f"| format | {' | '.join(heads)} | gzipped | memory beside the profile |"
    yield f"|---|{'--:|' * (2 * len(sizes) + 2)}"
    for name in names:
        cells = []
        for size in sizes:
            result = found[size][name]
            cells += [seconds(result["s"]), amount(result["size"])]
        last = found[most][name]
        yield f"| {name} | {' | '.join(cells)} | {amount(last['gzip'])} | {amount(last['peak'])} |"
    yield ""
    yield f"| saved profiles | {' | '.join(f'{size:,} stacks' for size in sizes)} | memory |"
    yield f"|---|{'--:|' * (len(sizes) + 1)}"
    for name in ACTIONS:
        taken = " | ".join(seconds(found[size][name]["s"]) for size in sizes)
        yield f"| {name} | {taken} | {amount(found[most][name]['peak'])} |"


def seconds(taken: float) -> str:
    """A time, for a person."""
    return f"{taken:.2f} s" if taken >= 0.1 else f"{taken * 1000:.0f} ms"


def amount(number: float) -> str:
    """Bytes, for a person; a dash for none."""
    if not number:
        return "-"
    return f"{number / MB:.1f} MB" if number >= MB else f"{number / KB:.0f} kB"


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the figures into this page")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, first, second = options.one
        say(json.dumps(done(what, Path(first), Path(second))))
        return 0
    sizes = QUICK_SIZES if options.quick else SIZES
    found = list(lines(sizes, lambda text: print(text, file=sys.stderr, flush=True)))
    for line in found:
        say(line)
    if options.into is not None:
        put_into(options.into, "benchmarks.formats", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
