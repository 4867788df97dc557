"""greenhack's decorators: what they take, what they make of it, and how either world calls that."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import greenprof
from greenprof import greenhack
from greenprof.errors import GreenprofError, OptionError
from greenprof.greenhack import LoopStateError, NoLoopError
from tests.running import run_python


@greenhack.exempt
async def add(one: int, two: int = 1) -> int:
    """Adds, and takes its time."""
    await asyncio.sleep(0)
    return one + two


def in_greenlet(function: Callable[[], Any]) -> Any:
    """Run sync code below a coroutine."""
    return asyncio.run(greenhack.as_async(function)())


def in_own_loop(function: Callable[[], Any]) -> Any:
    """Run sync code above a loop of its own."""
    greenhack.start_loop()
    try:
        return function()
    finally:
        greenhack.stop_loop()


both_worlds = pytest.mark.parametrize("run", [in_greenlet, in_own_loop])


def test_it_is_part_of_the_package() -> None:
    assert greenprof.greenhack is greenhack
    assert "greenhack" in dir(greenprof)
    for name in greenhack.__all__:
        assert getattr(greenhack, name).__doc__, name
    assert greenhack.ipython.enable.__doc__


def test_importing_it_is_light() -> None:
    """No profiler, no SDK: a web server imports it for the decorators alone."""
    finished = run_python(
        "-c",
        "import sys; from greenprof import greenhack; print([name for name in sys.modules if"
        " name.startswith(('greenprof.samplers', 'greenprof.exporters', 'opentelemetry', 'IPython',"
        " 'yappi', 'rich', 'click'))])",
    )
    assert (finished.returncode, finished.stdout.strip()) == (0, "[]"), str(finished)


# as_async


def test_as_async_makes_a_coroutine_function() -> None:
    def plain(one: int, *, two: int = 2) -> tuple[int, int]:
        """What it does."""
        return one, add(two)

    made = greenhack.as_async(plain)
    assert inspect.iscoroutinefunction(made)
    if sys.version_info < (3, 14):  # where it is deprecated
        assert asyncio.iscoroutinefunction(made)
    assert (made.__name__, made.__doc__, made.__module__) == ("plain", "What it does.", __name__)
    assert made.__wrapped__ is plain  # type: ignore[attr-defined]
    assert inspect.signature(made) == inspect.signature(plain)
    assert asyncio.run(made(1, two=4)) == (1, 5)
    coroutine = made(1)
    assert inspect.iscoroutine(coroutine)
    coroutine.close()


def test_decorators_with_and_without_parentheses() -> None:
    @greenhack.as_async()
    def outer() -> int:
        return inner(1)

    @greenhack.exempt()
    async def inner(number: int) -> int:
        return number + 1

    assert asyncio.run(outer()) == 2


class Repository:
    """Methods of each kind, decorated on either side of classmethod and staticmethod."""

    kind = "repository"

    def __init__(self, number: int) -> None:
        self.number = number

    @greenhack.exempt
    async def load(self) -> int:
        await asyncio.sleep(0)
        return self.number

    @greenhack.as_async
    def service(self) -> int:
        return self.load() + 1

    @classmethod
    @greenhack.exempt
    async def inner_class(cls) -> str:
        return cls.kind

    @greenhack.exempt
    @classmethod
    async def outer_class(cls) -> str:
        return cls.kind

    @staticmethod
    @greenhack.exempt
    async def inner_static() -> str:
        return "static"

    @greenhack.exempt
    @staticmethod
    async def outer_static() -> str:
        return "static"

    @greenhack.as_async
    @classmethod
    def async_class(cls) -> str:
        return cls.outer_class() + cls.inner_class()

    @greenhack.as_async
    @staticmethod
    def async_static() -> str:
        return Repository.outer_static() + Repository.inner_static()


class Cached(Repository):
    kind = "cached"

    @greenhack.exempt
    async def load(self) -> int:
        loaded: Any = super().load()  # a coroutine: this is one
        return int(await loaded) * 10


class Sync(Repository):
    def load(self) -> int:
        return super().load() * 100


def test_methods() -> None:
    async def main() -> list[Any]:
        return [
            await Repository(1).service(),
            await Cached(1).service(),
            await Sync(1).service(),
            await Cached.async_class(),
            await Cached.async_static(),
        ]

    assert asyncio.run(main()) == [2, 11, 101, "cachedcached", "staticstatic"]


@both_worlds
def test_anything_callable_can_be_exempted(run: Any) -> None:
    """Bound methods, partials, callable objects, and functions that return awaitables."""

    class Adder:
        async def __call__(self, one: int) -> int:
            return one + 1

    class Holder(Adder):
        def __init__(self, number: int) -> None:
            self.number = number

        async def load(self) -> int:
            return await self(self.number)

    async def plus(one: int, two: int) -> int:
        return one + two

    gather: Any = asyncio.gather
    wait_for: Any = asyncio.wait_for

    def work() -> list[Any]:
        return [
            greenhack.exempt(Holder(2).load)(),
            greenhack.exempt(functools.partial(plus, 1))(2),
            greenhack.exempt(Adder())(3),
            greenhack.exempt(lambda: asyncio.sleep(0, 4))(),
            greenhack.exempt(gather)(asyncio.sleep(0, 5), asyncio.sleep(0, 6)),
            greenhack.exempt(wait_for)(asyncio.sleep(0, 7), 1),
        ]

    assert run(work) == [3, 3, 4, 4, [5, 6], 7]


def test_a_repr_is_never_asked_for() -> None:
    """One may be expensive, or fail: that of a partial of a query runs the query."""

    class Fragile:
        def __repr__(self) -> str:
            raise RuntimeError

        async def __call__(self) -> int:
            return 1

    fragile = functools.partial(Fragile())
    assert in_greenlet(greenhack.exempt(fragile)) == 1
    with pytest.raises(OptionError, match="Fragile is no function"):
        greenhack.as_async(type("Fragile", (), {"__repr__": Fragile.__repr__})())


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


async def coroutine_function() -> None:
    pass


@pytest.mark.parametrize(
    ("decorator", "given", "message"),
    [
        (greenhack.as_async, generator, "generator is a generator function"),
        (greenhack.as_async, async_generator, "async_generator is async already"),
        (greenhack.as_async, coroutine_function, "coroutine_function is async already"),
        (greenhack.as_async, Repository, "Repository is no function"),
        (greenhack.as_async, 5, "int is no function"),
        (greenhack.exempt, generator, "generator is a generator function"),
        (greenhack.exempt, async_generator, "use greenhack.exempt_it"),
        (greenhack.exempt, Repository, "Repository is no function"),
        (greenhack.exempt, 5, "int is no function"),
        (greenhack.exempt_cm, 5, "int is not an async context manager"),
        (greenhack.exempt_cm, Repository, "Repository is not an async context manager"),
        (greenhack.exempt_cm, coroutine_function, "there is greenhack.exempt"),
        (greenhack.exempt_it, 5, "int is not an async iterator"),
        (greenhack.exempt_it, [1], "list is not an async iterator"),
        (greenhack.exempt_it, coroutine_function, "there is greenhack.exempt"),
    ],
)
def test_what_decorators_refuse(decorator: Any, given: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        decorator(given)


# exempt


@both_worlds
def test_exempt_waits_in_sync_code(run: Any) -> None:
    assert run(lambda: add(add(1), two=add(2))) == 5
    assert add.__doc__ == "Adds, and takes its time."
    assert list(inspect.signature(add).parameters) == ["one", "two"]


def test_exempt_in_a_coroutine_returns_the_awaitable_unchanged() -> None:
    """A coroutine on the loop: one that was called by nobody's sync code, and one that was."""
    seen: list[Any] = []

    async def coroutine() -> int:
        made: Any = add(1, 2)
        seen.append(inspect.iscoroutine(made))
        assert not greenhack.can_await()
        future = asyncio.get_running_loop().create_future()
        assert greenhack.exempt(lambda: future)() is future
        future.set_result(None)
        return int(await made)

    def sync(depth: int) -> int:
        assert greenhack.can_await()
        found: int = greenhack.await_(coroutine())
        if depth:
            found += greenhack.await_(greenhack.as_async(sync)(depth - 1))
        return found

    async def main() -> tuple[int, int]:
        return await coroutine(), await greenhack.as_async(sync)(3)

    assert asyncio.run(main()) == (3, 12)
    assert in_own_loop(lambda: sync(3)) == 12
    assert seen == [True] * 9


def test_callbacks_of_the_loop_are_no_sync_code() -> None:
    found: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: found.append(greenhack.can_await()))
        await greenhack.as_async(lambda: add(1))()

    asyncio.run(main())
    greenhack.start_loop().call_soon(lambda: found.append(greenhack.can_await()))
    add(1)
    greenhack.stop_loop()
    assert found == [False, False]


def test_exempt_of_as_async_runs_in_the_same_greenlet() -> None:
    import greenlet

    @greenhack.as_async
    def inner() -> Any:
        return greenlet.getcurrent(), add(1)

    called = greenhack.exempt(inner)

    def outer() -> None:
        assert called() == (greenlet.getcurrent(), 2)
        other, result = greenhack.await_(inner())
        assert (other is greenlet.getcurrent(), result) == (False, 2)

    in_greenlet(outer)
    in_own_loop(outer)


# exempt_cm


class Resource:
    """An async context manager that says what happened."""

    def __init__(self, name: str = "", *, swallows: bool = False) -> None:
        self.name, self.swallows = name, swallows
        self.log: list[Any] = []

    async def __aenter__(self) -> str:
        await asyncio.sleep(0)
        self.log.append("entered")
        return f"<{self.name}>"

    async def __aexit__(self, *raised: object) -> bool:
        await asyncio.sleep(0)
        self.log.append(raised[0])
        assert len({one is None for one in raised}) == 1
        return self.swallows


@contextlib.asynccontextmanager
async def transaction(log: list[str]) -> AsyncIterator[str]:
    log.append("begin")
    try:
        yield "transaction"
    except KeyError:
        log.append("rollback")
    else:
        await asyncio.sleep(0)
        log.append("commit")


@both_worlds
def test_context_managers(run: Any) -> None:
    def swallows(manager: Any) -> Any:
        with manager as entered, contextlib.ExitStack():
            raise ValueError("mine")
        return entered  # type: ignore[unreachable]

    def work() -> None:
        resource = Resource("one")
        with greenhack.exempt_cm(resource) as entered:
            assert entered == "<one>"
        assert resource.log == ["entered", None]
        with pytest.raises(ValueError, match="mine"), greenhack.exempt_cm(resource):
            raise ValueError("mine")
        swallowing = greenhack.exempt_cm(Resource)("two", swallows=True)
        assert (swallows(swallowing), swallowing.log) == ("<two>", ["entered", ValueError])
        log: list[str] = []
        for raised in (False, True):
            with greenhack.exempt_cm(transaction)(log) as name:
                log.append(name)
                if raised:
                    raise KeyError
        assert log == ["begin", "transaction", "commit", "begin", "transaction", "rollback"]

    run(work)


def test_context_managers_in_coroutines() -> None:
    decorated = greenhack.exempt_cm()(transaction)

    async def main() -> list[str]:
        log: list[str] = []
        async with decorated(log) as name:
            log.append(name)
        async with greenhack.exempt_cm(Resource("one")) as entered:
            log.append(entered)
        return log

    assert asyncio.run(main()) == ["begin", "transaction", "commit", "<one>"]


@both_worlds
def test_managers_that_look_for_the_loop(run: Any) -> None:
    """asyncio.timeout does when it is made; entering and leaving it has to be in one task."""

    def work() -> str:
        with pytest.raises(TimeoutError), greenhack.exempt_cm(asyncio.timeout)(0.02) as limit:
            greenhack.await_(asyncio.sleep(30))
        assert limit.expired()
        with greenhack.exempt_cm(asyncio.timeout)(30):
            add(1)
        return "on time"

    assert run(work) == "on time"


@both_worlds
def test_a_task_group(run: Any) -> None:
    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("of a task")

    def waits_in_group() -> None:
        with greenhack.exempt_cm(asyncio.TaskGroup()) as group:
            group.create_task(fails())
            greenhack.await_(asyncio.sleep(30))

    def work() -> None:
        with greenhack.exempt_cm(asyncio.TaskGroup()) as group:
            tasks = [group.create_task(asyncio.sleep(0.001, number)) for number in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        with pytest.raises(ExceptionGroup) as raised:
            waits_in_group()
        assert raised.group_contains(ValueError, match="of a task")
        assert add(1) == 2

    run(work)


# exempt_it


async def countdown(start: int, log: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(start, 0, -1):
            await asyncio.sleep(0)
            yield number
    finally:
        await asyncio.sleep(0)
        log.append("closed")


class Rows:
    """Can be iterated over again and again."""

    def __aiter__(self) -> AsyncIterator[int]:
        return countdown(2, [])


@both_worlds
def test_iterators(run: Any) -> None:
    def work() -> None:
        log: list[str] = []
        assert list(greenhack.exempt_it(countdown)(3, log)) == [3, 2, 1]
        assert list(greenhack.exempt_it(countdown(2, log))) == [2, 1]
        assert log == ["closed"] * 2
        rows = greenhack.exempt_it(Rows())
        assert [list(rows), list(rows)] == [[2, 1], [2, 1]]
        assert sum(greenhack.exempt_it(Rows)()) == 3
        iterator = greenhack.exempt_it(countdown)(5, log)
        assert (next(iterator), iter(iterator)) == (5, iterator)
        with contextlib.closing(iterator):
            for number in iterator:
                assert number == 4
                break
        assert log == ["closed"] * 3
        assert list(iterator) == []

    run(work)


@both_worlds
def test_an_iterator_that_fails(run: Any) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise LookupError("row")

    def work() -> int:
        rows = greenhack.exempt_it(failing())
        found: int = next(rows)
        with pytest.raises(LookupError, match="row"):
            next(rows)
        return found

    assert run(work) == 1


def test_iterators_in_coroutines() -> None:
    @greenhack.exempt_it
    async def rows(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def main() -> list[int]:
        found = [number async for number in rows(3)]
        found += [number async for number in greenhack.exempt_it(Rows())]
        return found

    assert asyncio.run(main()) == [0, 1, 2, 2, 1]


# Where nothing can wait.


def test_await_without_a_loop_says_what_to_do() -> None:
    closed: list[bool] = []

    async def work() -> None:
        closed.append(False)

    coroutine = work()
    with pytest.raises(NoLoopError, match=r"work.* call greenhack.start_loop\(\) first") as raised:
        greenhack.await_(coroutine)
    assert isinstance(raised.value, GreenprofError | RuntimeError)
    assert (closed, inspect.getcoroutinestate(coroutine)) == ([], inspect.CORO_CLOSED)
    assert not greenhack.can_await()


def test_await_in_a_coroutine_says_what_to_do() -> None:
    async def main() -> None:
        with pytest.raises(NoLoopError, match=r"greenhack.as_async.*or use `await` here"):
            greenhack.await_(asyncio.sleep(0))
        with pytest.raises(NoLoopError, match="not awaitable"):
            greenhack.await_(FIVE)

    asyncio.run(main())


@both_worlds
def test_waiting_for_what_is_not_awaitable(run: Any) -> None:
    def work() -> int:
        with pytest.raises(TypeError, match=NOT_AWAITABLE):
            greenhack.await_(FIVE)
        return add(1)

    assert run(work) == 2


FIVE: Any = 5
# Python's own words.
NOT_AWAITABLE = (
    "int can't be used in 'await'"
    if sys.version_info < (3, 14)
    else "'int' object can't be awaited"
)

USES: list[Callable[[Any], Any]] = [
    lambda found: found.status,
    lambda found: found.method(),
    lambda found: found(),
    lambda found: found[0],
    len,
    lambda found: found + 1,
    lambda found: 1 + found,
    lambda found: found > 1,
    lambda found: 1 in found,
    list,
    int,
    lambda found: found.__enter__(),
]


@pytest.mark.parametrize("use", USES)
def test_exempt_code_without_a_loop_says_what_to_do(use: Callable[[Any], Any]) -> None:
    with pytest.raises(NoLoopError, match=r"^add\(\) has no result yet.*greenhack.start_loop\(\)"):
        use(add(1))


def test_exempt_code_without_a_loop_that_nobody_asks() -> None:
    with pytest.warns(RuntimeWarning, match=r"^add\(\) was called and did nothing.*start_loop"):
        add(1)
    made = add(1)
    assert "greenhack.start_loop()" in repr(made)
    made.close()  # type: ignore[attr-defined]


def test_exempt_code_without_a_loop_is_for_loops_to_come() -> None:
    made: Any = add(1)
    assert asyncio.iscoroutine(made)
    assert inspect.isawaitable(made)
    assert asyncio.run(made) == 2

    async def main() -> int:
        return await add_later  # type: ignore[no-any-return]

    add_later: Any = add(2)
    assert asyncio.run(main()) == 3
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(loop.create_task(add(3))) == 4  # type: ignore[arg-type]
        failing: Any = greenhack.exempt(fails)()
        with pytest.raises(ValueError, match="of a coroutine"):
            loop.run_until_complete(failing)
    finally:
        loop.close()


async def fails() -> None:
    raise ValueError("of a coroutine")


def test_print_stack(capsys: pytest.CaptureFixture[str]) -> None:
    async def leaf() -> None:
        greenhack.print_stack()

    def service() -> None:
        greenhack.await_(leaf())

    in_greenlet(service)
    printed = capsys.readouterr().err
    names = [line.rpartition(" ")[2] for line in printed.splitlines() if " in " in line]
    at = names.index("as_async.<locals>.run")
    assert names[at:] == [
        "as_async.<locals>.run",
        "test_print_stack.<locals>.service",
        "await_",
        "test_print_stack.<locals>.leaf",
    ]
    assert printed.count("--- greenlet boundary ---") == 2


def test_types_are_kept(tmp_path: Any) -> None:
    """What a type checker sees: the parameters, and the result as sync code gets it."""
    program = tmp_path / "program.py"
    program.write_text(
        """\
from greenprof import greenhack

@greenhack.exempt
async def load(number: int) -> str: ...

@greenhack.exempt()
async def load_again(number: int) -> str: ...

@greenhack.as_async
def view(number: int) -> str:
    return load(number) + load_again(number)

@greenhack.as_async()
def view_again(number: int) -> str:
    return greenhack.await_(view(number))

async def main() -> None:
    reveal_type(load)
    reveal_type(load_again)
    reveal_type(view)
    reveal_type(view_again)
    view("one")
""",
        encoding="utf-8",
    )
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = [
        line.partition(" is ")[2] for line in finished.stdout.splitlines() if " is " in line
    ]
    assert [one.replace("builtins.", "") for one in revealed] == [
        '"def (number: int) -> str"',
        '"def (number: int) -> str"',
        '"def (number: int) -> typing.Coroutine[Any, Any, str]"',
        '"def (number: int) -> typing.Coroutine[Any, Any, str]"',
    ], finished.stdout
    assert 'Argument 1 to "view" has incompatible type "str"; expected "int"' in finished.stdout


def test_errors_are_of_one_tree() -> None:
    for error in (NoLoopError, LoopStateError):
        assert issubclass(error, GreenprofError)
        assert issubclass(error, RuntimeError)
