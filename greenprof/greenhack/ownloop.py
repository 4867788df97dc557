"""A loop for programs that have none: it runs in a greenlet below the sync code.

`start_loop` gives the calling greenlet's code a loop and one task, which runs whenever that code
waits for something: `await_` switches to the loop's greenlet, where the task awaits, and back.
All awaits of the code are that one task's, so time limits and task groups that are entered by one
and left by another work. While the code runs the loop does not, and must not look as if it did:
other code may then run a loop of its own, as `asyncio.run` does.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable
from types import FrameType
from typing import Any, cast
from weakref import WeakSet

from greenlet import GreenletExit, getcurrent, greenlet

from greenprof.errors import LoopStateError
from greenprof.greenhack.contexts import can_be_entered, context_of, in_context

__all__ = ["OwnLoop", "is_here", "mend", "of", "start_for_blocking", "start_loop", "stop_loop"]

Factory = Callable[[], asyncio.AbstractEventLoop]


class _Here(threading.local):
    """What this thread has."""

    loop: OwnLoop | None = None
    closer: _Closer | None = None


class _Closer:
    """Goes with its thread, and stops the thread's loop then if nobody has."""

    def __init__(self, own: OwnLoop) -> None:
        self._own = own

    def __del__(self) -> None:
        if self._own.pid == os.getpid() and self._own.thread == threading.get_ident():
            self._own.stop(joins=False)


_here = _Here()
_forked = False
# Of other threads, which have to be asked to end theirs.
_elsewhere: WeakSet[OwnLoop] = WeakSet()
#: How long the end of the interpreter, or of a thread, waits for those, and for tasks.
THREADS_END_S = 2.0
TASKS_END_S = 5.0


class OwnLoop:
    """A loop, the greenlet that runs it, and the sync code's, which waits for its task."""

    def __init__(self, factory: Factory) -> None:
        self.pid = os.getpid()
        self.thread = threading.get_ident()
        self.owner = getcurrent()
        self.loop = factory()
        # Of the loop's callbacks one runs the sync code, which is as slow as it likes.
        self.loop.slow_callback_duration = float("inf")
        self.greenlet = greenlet(self._run, self.owner)
        self.handed: Any = None
        context = context_of(self.owner)
        # One that was entered by Context.run cannot be entered by the task.
        self._context = context if can_be_entered(context) else None
        # Counts the tasks: there is another one after one that did not want to be interrupted.
        self._number = 0
        self._task: asyncio.Task[None] = self._new_task()
        # Who waits: the sync code, while the loop runs. And what is to be raised there.
        self.waits = False
        self.to_raise: BaseException | None = None
        self._cancelled = False
        # What a new task begins with.
        self._first: BaseException | None = None
        self._ended = False
        self._handler: Any = None
        self.greenlet.switch()
        self._take_interrupts()

    def _new_task(self) -> asyncio.Task[None]:
        # Not loop.create_task: it would be the program's own task factory that makes it.
        return asyncio.Task(self._serve(), loop=self.loop, name="greenhack", context=self._context)

    def _run(self) -> None:
        """Run the loop, in its greenlet, until the task is told to end."""
        while True:
            try:
                self.loop.run_until_complete(self._task)
            except BaseException as error:
                if self._ended or isinstance(error, GreenletExit):
                    raise
                if self.to_raise is None and not self._task.done():
                    # What a task or a signal handler threw out of the loop is for the sync code,
                    # once what that waits for has cleaned up.
                    self.to_raise = error
                    self._cancel()
                    continue
                # The second time it does not wait for that.
                self._first = error
            else:
                return
            self.to_raise, self._cancelled = None, False
            self._number += 1
            self._task = self._new_task()

    async def _serve(self) -> None:
        """Await whatever the sync code hands over: the task of all its awaits."""
        owner, loop, number = self.owner, self.loop, self._number
        value: Any = None
        error, self._first = self._first, None
        while True:
            _leave_task(loop, self._task)
            asyncio._set_running_loop(None)
            try:
                if error is None:
                    owner.switch(value)
                else:
                    owner.throw(type(error), error, error.__traceback__)
            finally:
                error = None
                asyncio._set_running_loop(loop)
                _enter_task(loop, self._task)
            awaitable, self.handed = self.handed, None
            entered = owner.gr_context
            try:
                if entered is self._context or entered is None:
                    value = await awaitable
                else:
                    value = await in_context(awaitable, entered)
            except BaseException as caught:
                error = caught
            if self._ended or number != self._number:
                return  # the sync code has gone on without it
            if self.to_raise is not None:
                error = self.interrupted(error)

    def resume(self) -> None:
        """The sync code goes on; raises what has interrupted it meanwhile."""
        self.waits = False
        if self.to_raise is not None:
            raise self.interrupted()

    def interrupted(self, error: BaseException | None = None) -> BaseException:
        """What the sync code gets after an interrupt, whatever it got otherwise."""
        raised, self.to_raise = self.to_raise, None
        if self._cancelled:
            self._cancelled = False
            self._task.uncancel()
        if raised is None:  # another one has taken it
            return error or KeyboardInterrupt()
        if error is not None and error is not raised:
            raised.__context__ = error
        return raised

    def _cancel(self) -> None:
        """Cancel what the sync code waits for, if it has not come to its end meanwhile."""
        if self.to_raise is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _take_interrupts(self) -> None:
        """Have Ctrl-C cancel what the sync code waits for, where Python's own handler is set."""
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._handler = self._interrupt
            signal.signal(signal.SIGINT, self._handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.waits or os.getpid() != self.pid:
            signal.default_int_handler(number, frame)
        if self.to_raise is None:
            self.interrupt(KeyboardInterrupt())
        elif frame is None or frame.f_code is not OwnLoop._serve.__code__:
            # The second time. The task itself is about to hand the first one over.
            signal.default_int_handler(number, frame)

    def interrupt(self, error: BaseException) -> None:
        """Raise an error in the sync code that waits, once what it waits for has cleaned up."""
        self.to_raise = error
        # Wakes the loop as well, which may be waiting.
        self.loop.call_soon_threadsafe(self._cancel)

    def stop(self, *, joins: bool = True) -> None:
        """End the task, and what else runs on the loop; close the loop."""
        if self.loop.is_closed():
            return
        if self._handler is not None and signal.getsignal(signal.SIGINT) == self._handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            if not self.greenlet.dead:
                # In a variable as well, for stacks.
                self.handed = ending = self._end(joins)  # noqa: F841
                self.greenlet.parent = getcurrent()
                self.greenlet.switch()
        finally:
            self.loop.close()

    async def _end(self, joins: bool) -> None:
        """Cancel a loop's tasks and let them end; say what they raised instead."""
        self._ended = True
        tasks = asyncio.all_tasks() - {self._task}
        for task in tasks:
            task.cancel()
        # A process that does not end is worse than a task that does not.
        done, pending = (
            await asyncio.wait(tasks, timeout=None if joins else TASKS_END_S)
            if tasks
            else (tasks, tasks)
        )
        for task in pending:
            said = f"task did not end within {TASKS_END_S:g} s of its cancellation at exit"
            self.loop.call_exception_handler({"message": said, "task": task})
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                said = "unhandled exception while greenhack's loop was stopped"
                self.loop.call_exception_handler(
                    {"message": said, "exception": error, "task": task}
                )
        await self.loop.shutdown_asyncgens()
        if joins:  # it takes another thread, which cannot be had where this one ends
            await self.loop.shutdown_default_executor()


def of(current: greenlet) -> OwnLoop | None:
    """The loop that serves a greenlet, None for all that did not start one."""
    own = _here.loop
    if own is None or own.owner is not current or own.waits:
        return None
    if current.gr_context is not own._context and asyncio.current_task(own.loop) is not None:
        return None  # an eager task's first step, which has a context of its own
    return own


def is_here() -> bool:
    """Whether this thread has a loop of greenhack's."""
    return _here.loop is not None


def mend() -> str:
    """What to do where no loop runs."""
    if _forked and _here.loop is None:
        return (
            "This process was forked from one that had called greenhack.start_loop(), whose loop "
            "did not come along: call greenhack.start_loop() here as well"
        )
    if _here.loop is not None:
        return (
            "greenhack.start_loop() was called in another greenlet of this thread: "
            "call it in the one that waits"
        )
    return (
        "No loop runs in this thread: call greenhack.start_loop() first, as scripts and manage.py "
        "do, or run this code below a function decorated with greenhack.as_async"
    )


def start_loop(*, loop_factory: Factory | None = None) -> asyncio.AbstractEventLoop:
    """Give the calling sync code a loop that runs while it waits, and return that loop.

    For scripts, `manage.py` and the plain REPL; once for each thread that needs one. Calling it
    again returns the same loop. It ends by `stop_loop`, or with the interpreter or its thread.
    `loop_factory` makes the loop, as `uvloop.new_event_loop` does; by default asyncio's policy.
    Raises LoopStateError where a loop runs already, and in another greenlet of a thread that has
    one.
    """
    own = _here.loop
    if own is not None:
        if own.owner is getcurrent() and not own.waits:
            return own.loop
        raise LoopStateError(
            "greenhack.start_loop() was called in this thread already, by another greenlet or "
            "further up: call greenhack.stop_loop() there first"
        )
    if asyncio._get_running_loop() is not None:
        raise LoopStateError(
            "a loop runs in this thread already: decorate the sync function with "
            "greenhack.as_async and await it instead; in IPython or Jupyter call "
            "greenhack.ipython.enable()"
        )
    own = OwnLoop(loop_factory or asyncio.new_event_loop)
    _here.loop = own
    if threading.current_thread() is not threading.main_thread():
        _here.closer = _Closer(own)
        _elsewhere.add(own)
    return own.loop


def start_for_blocking() -> OwnLoop:
    """What `start_loop` does, for a thread in the mode "blocking" that waits the first time."""
    start_loop()
    return cast("OwnLoop", _here.loop)


def stop_loop() -> None:
    """End the loop of `start_loop` in this thread: cancel its tasks, and close it.

    Does nothing where none was started. Raises LoopStateError on the loop itself.
    """
    own = _here.loop
    if own is None:
        return
    if own.waits:
        raise LoopStateError(
            "greenhack.stop_loop() was called by what runs on the loop: call it in the code that "
            "called start_loop()"
        )
    _here.loop = None
    own.stop()


def _at_exit() -> None:
    own = _here.loop
    if own is not None and not own.waits:
        _here.loop = None
        own.stop(joins=False)
    _end_waits_elsewhere()


def _end_waits_elsewhere() -> None:
    """End the threads that wait for their loops: of those that are left, daemon threads.

    Python ends them in mid-air otherwise, which crashes it where a greenlet other than a thread's
    first one runs.
    """
    deadline = time.monotonic() + THREADS_END_S
    waiting = [own for own in _elsewhere if own.waits and not own.loop.is_closed()]
    for own in waiting:
        own.interrupt(SystemExit())
    while time.monotonic() < deadline and not all(own.loop.is_closed() for own in waiting):
        time.sleep(0.001)


def _after_fork_in_child() -> None:
    global _forked
    _elsewhere.clear()
    if _here.loop is not None:
        _forked = True
        _keep(_here.loop)
        _here.loop = None


def _keep(own: OwnLoop) -> None:
    """Keep a loop for good: to close it would take away the parent's watched files."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(own))
    if own._handler is not None and signal.getsignal(signal.SIGINT) == own._handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
