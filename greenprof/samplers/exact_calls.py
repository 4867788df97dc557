"""Which node of the call tree a call belongs to: what yappi asks at each call.

Most calls are told by the caller's frame, whose node is known, in a few hundred nanoseconds. What
has no caller in its own greenlet, or is awaited on behalf of sync code, is put below those whose
stack it belongs to, as `greenprof.stacks` has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from itertools import chain, repeat
from types import CodeType, FrameType
from typing import Any, Final
from weakref import WeakSet

from greenlet import getcurrent, greenlet

from greenprof import labels, loops, stacks, switches
from greenprof._native import get_ident, thread_local
from greenprof.bridges import Part, role_of
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.rawstack import runs_program
from greenprof.samplers.exact_contexts import Contexts
from greenprof.samplers.exact_coroutines import Entered
from greenprof.samplers.exact_deferred import Deferred
from greenprof.samplers.exact_groups import Groups, frames_above, is_outside, task_greenlet
from greenprof.samplers.exact_steps import Entries
from greenprof.samplers.exact_tree import (
    CROSSING,
    LOOKED_AT,
    NOWHERE,
    Node,
    Tree,
    is_overflow,
    make_bridge,
    mark_awaited,
    mark_of,
    stand_in,
)
from greenprof.stacks import AWAITED, BOUNDARY
from greenprof.switches import CO_AWAITS

#: Frames remembered with their nodes; those that live are found again when these are forgotten.
MAX_FRAMES: Final = 200_000
#: What yappi may hold, and after how many looks for a node that is checked.
MAX_YAPPI_BYTES: Final = 1 << 30
CHECK_EVERY: Final = 1024
#: Kinds of trouble that are told apart.
MAX_TROUBLES: Final = 20


class Here(thread_local):  # type: ignore[misc]
    """What belongs to one thread: who answers yappi there, and what that has to know."""

    def __init__(self, calls: Calls) -> None:
        self.free: list[int] = []
        self.entered = Entered()
        calls.entered.add(self.entered)
        # Greenlets that may have begun before they were seen: their callers are not known.
        self.older: set[int] = set()
        self.quick: Any = calls.answers(quick=True)
        self.answers: Iterator[int] = self.quick
        calls.generators.add(self.quick)


class Calls:
    """Gives each call the number of its node.

    A profile hook must not raise: yappi would print the error and ask no more. What a signal
    handler of the program's raises in here is raised in the program a moment later.
    """

    def __init__(self, tree: Tree, yappi: Any, clock: Callable[[], int]) -> None:
        self.tree = tree
        self.entries = Entries()
        self.groups = Groups(tree)
        self.troubles: dict[str, int] = {}
        self.deferred = Deferred(Calls.answers.__code__)
        self.generators: WeakSet[Any] = WeakSet()
        self.entered: WeakSet[Entered] = WeakSet()
        #: Time that looking for nodes took, and whose own time yappi takes it for, by number.
        self.spent_ns: dict[int, int] = {}
        #: Set once yappi holds more memory than it may; nothing is recorded from then on.
        self.full = False
        self._clock = clock
        self._yappi = yappi
        #: How many calls were looked at that the tables do not answer.
        self.looks = 0
        # Nodes by the ids of frames; only those of living frames mean anything.
        self._frames: dict[int, Node] = {}
        self._gives_back = False
        self.here = Here(self)
        self.contexts = Contexts(lambda: self.here.free, self._older)

    def callback(self, gives_back: bool) -> Any:
        """What yappi is to ask for the number of each call; one generator answers in each thread.

        A generator, because it can catch what signal handlers raise before its first own step. It
        gives references to coroutines back if told to, see `exact_coroutines`.
        """
        self._gives_back = gives_back
        return map(next, map(getattr, repeat(self.here), repeat("answers"))).__next__

    def answers(self, quick: bool) -> Generator[int, None, None]:
        """The number of each call in one thread, whenever asked; all are looked at if not `quick`."""
        getframe = sys._getframe
        frames = self._frames
        plain = self.entries.plain
        stepping = self.entries.stepping
        place = self._place
        step = self._step
        late = self.deferred.answers
        troubles: list[BaseException] = []
        number = NOWHERE
        asked = no_room = False
        while True:
            try:
                if asked:
                    frame = getframe(1)
                    asked = False
                    number = place(frame, frame.f_code)
                    frame = None  # type: ignore[assignment]  # it must not live on here
                while troubles and not no_room:
                    self._trouble(troubles.pop())
                while True:
                    no_room = False
                    if late:
                        yield late.pop()(number)
                    else:
                        yield number
                    asked = True
                    number = NOWHERE
                    frame = getframe(1)
                    code = frame.f_code
                    key = id(code)
                    if not quick:
                        asked = False
                        number = place(frame, code)
                    elif frame.f_lasti == (first := plain.get(key)):
                        node = frames[id(frame.f_back)].children[key]
                        frames[id(frame)] = node
                        node.calls += 1
                        number = node.number
                        asked = False
                    elif first is not None:
                        node = frames[id(frame)]  # it calls a C function
                        asked = False
                        number = node.number if node.code is code else place(frame, code)
                    elif key in stepping:
                        asked = False
                        number = step(frame, code)
                    else:
                        asked = False
                        number = place(frame, code)
                    frame = None  # type: ignore[assignment]
            except GeneratorExit:
                return
            except BaseException as error:
                # Nothing is called here: a second signal's handler would end the generator. What
                # was not found in the tables is looked for above.
                if not asked or type(error) is not KeyError:
                    # Where a program's recursion has come to its limit, they wait for the next call.
                    no_room = type(error) is RecursionError
                    troubles = [*troubles[-MAX_TROUBLES:], error]
                frame = None

    def _trouble(self, error: BaseException) -> None:
        if from_signal_handler(error):
            self.deferred.add(error)
            return
        try:
            text = reason(error)
        except RecursionError:  # it was raised at the limit, and still holds
            text = type(error).__name__
        if text in self.troubles or len(self.troubles) < MAX_TROUBLES:
            self.troubles[text] = self.troubles.get(text, 0) + 1

    def _older(self, one: greenlet) -> None:
        """Look closely at the next call in a greenlet that was not seen to begin."""
        here = self.here
        here.older.add(id(one))
        if here.answers is here.quick:
            close = self.answers(quick=False)
            self.generators.add(close)
            here.answers = close

    def begin_thread(self, main: greenlet, frame: FrameType) -> None:
        """Forget the thread that had the calling one's identity before, and frames that had its frames' ids."""
        self.contexts.begin_thread(main)
        self.groups.thread_begins()
        for one in frames_above(frame):
            self._frames.pop(id(one), None)

    def switched(
        self, _event: str, _origin: greenlet, target: greenlet, frame: Any, handed: bool
    ) -> None:
        """Listen to switches: a greenlet begins, or a coroutine is to await for one."""
        if frame is None:
            self.contexts.begin(target)
        elif handed:
            node = self._frames.get(id(frame))
            if node is not None and not node.is_bridge and node.code is frame.f_code:
                make_bridge(node)

    def _step(self, frame: FrameType, code: CodeType) -> int:
        """The number of a call in a generator or coroutine, or of its next step."""
        steps = self.entries.stepping[id(code)]
        node = self._frames.get(id(frame))
        lasti = frame.f_lasti
        if lasti not in steps.all:  # it calls a C function
            if node is None or node.code is not code:
                return self._place(frame, code)
            return node.number
        awaits = code.co_flags & CO_AWAITS
        if awaits and self._gives_back:
            self.here.entered.enter(frame)
        if lasti != steps.first and lasti not in steps.yielded:
            if node is not None and node.code is code:
                return node.number
            return self._place(frame, code, entered=True)
        parent = self._frames.get(id(frame.f_back))
        node = None if parent is None else parent.children.get(id(code))
        if node is None:
            return self._place(frame, code, entered=True)
        self._frames[id(frame)] = node
        if lasti == steps.first:
            node.calls += 1
        return node.number

    def _place(self, frame: FrameType, code: CodeType, entered: bool = False) -> int:
        """Find the node of a call whose caller is not known, or has to be looked for."""
        began_ns = self._clock()
        self.looks += 1
        if self.looks % CHECK_EVERY == 0 and self._yappi.get_mem_usage() > MAX_YAPPI_BYTES:
            self.full = True
            self._yappi.stop()
        self.entries.learn(code)
        key, lasti = id(code), frame.f_lasti
        steps = self.entries.stepping.get(key)
        if steps is None:
            began = enters = lasti == self.entries.plain.get(key)
        else:
            enters = lasti in steps.all
            began = lasti == steps.first
            if enters and not entered and self._gives_back and code.co_flags & CO_AWAITS:
                self.here.entered.enter(frame)
        current = getcurrent()
        older = id(current) in self.here.older
        node: Node | None = None
        if not older:
            known = self._frames.get(id(frame))
            if began or (steps is not None and lasti in steps.yielded):
                node = self._below_caller(frame, code, current)
            elif known is not None and (known.code is code or is_overflow(known)):
                node = known
        if node is None:
            try:
                node = self._unify(frame, current, older)
            except Exception as error:  # objects of any library are looked at
                if from_signal_handler(error):
                    raise
                self._trouble(error)
                root = self.groups.root(None, stacks.RawStack(), get_ident())
                node = self.tree.child(root, code, frame.f_globals.get("__name__"), LOOKED_AT)
        if len(self._frames) >= MAX_FRAMES:
            self._frames.clear()
        self._frames[id(frame)] = node
        if began:
            node.calls += 1
        if older:
            self._enter_older(frame.f_back if enters else frame, current)
            return node.number
        caller = self._frames.get(id(frame.f_back)) if enters else node
        if caller is not None:
            spent_ns = self._clock() - began_ns
            self.spent_ns[caller.number] = self.spent_ns.get(caller.number, 0) + spent_ns
        return node.number

    def _below_caller(self, frame: FrameType, code: CodeType, current: greenlet) -> Node | None:
        """The node of a function that is entered, if it is told by its caller's; None if not."""
        back = frame.f_back
        module = frame.f_globals.get("__name__")
        if back is None:
            return self._below_parent(code, module, current)
        parent = self._frames.get(id(back))
        if parent is None or (parent.code is not back.f_code and not is_overflow(parent)):
            return None
        if parent.real is self.tree.unnamed:
            return None
        if parent.number == NOWHERE and runs_program(code):
            # The program begins here.
            return stand_in(self.groups.root(None, stacks.RawStack(), get_ident()), code)
        mark = mark_of(parent, back.f_code, code)
        if not mark:
            return self.tree.child(parent, code, module)
        state = switches.of_thread(get_ident())
        waiter = None if state is None else state.awaited_by(back)
        if waiter is None:
            if code.co_flags & CO_AWAITS:
                return None
            return self.tree.child(parent, code, module, mark)
        site = waiter.gr_frame
        above = None if site is None else self._frames.get(id(site))
        if above is None or site is None or above.code is not site.f_code:
            return None
        above.real.kind = BOUNDARY
        node = self.tree.child(above, code, module, CROSSING)
        mark_awaited(node)
        return node

    def _below_parent(self, code: CodeType, module: str | None, current: greenlet) -> Node | None:
        """The node of the first function of a greenlet, below whoever started that."""
        parent = current.parent
        frame = None if parent is None else parent.gr_frame
        node = None if frame is None else self._frames.get(id(frame))
        if frame is None or node is None or node.code is not frame.f_code or node.below_hub:
            return None
        role = role_of(code)
        if role is not None and role.part is Part.HUB:
            return None
        if frame.f_code.co_flags & CO_AWAITS:
            node.real.kind = BOUNDARY
        return self.tree.child(node, code, module, CROSSING)

    def _unify(self, frame: FrameType, current: greenlet, older: bool) -> Node:
        """The node of what runs, found by its whole stack."""
        ident = get_ident()
        task = loops.current_task(loops.running_loop())
        if current.parent is None and is_outside(frame, ident):
            return stand_in(self.tree.outside, frame.f_code)
        if runs_program(frame.f_code):
            return stand_in(self.groups.root(None, stacks.RawStack(), ident), frame.f_code)
        raw, is_tasks = stacks.running(frame, current, switches.of_thread(ident), task)
        owner: Any = None
        if raw.owner is None:
            owner = task if is_tasks else task_greenlet(current)
        if isinstance(owner, greenlet) and raw.frames[-1:] == [frame]:
            role = role_of(frame.f_code)
            if role is not None and labels.root_name(raw) is None:
                return stand_in(self.tree.unnamed, frame.f_code)
        node = self.groups.root(owner, raw, ident)
        kinds = raw.kinds()
        begins = isinstance(owner, greenlet) and frame.f_back is None
        if is_tasks and frame.f_code.co_flags & CO_AWAITS:
            runner = self._frames.get(id(frame.f_back))
            if runner is not None and not runner.awaits:
                runner.real.runs_tasks = True
                # Where sync code waits for a task's end, the task hangs below a boundary.
                begins = not runner.hands_over and not (kinds and kinds[-1][1])
        # Frames of other tasks are in the trees of theirs.
        own = {id(one): one for one in frames_above(frame)}
        segments = {at: kind for at, kind, _ in raw.segments}
        segment = stacks.PYTHON
        for at, (one, (kind, crosses)) in enumerate(zip(raw.frames, kinds, strict=True)):
            segment = segments.get(at, segment)
            known = self._frames.get(id(one)) if id(one) in own and not older else None
            unnamed = known is not None and known.real is self.tree.unnamed
            if known is not None and one is not frame and known.code is one.f_code and not unnamed:
                node = known
                continue
            above = raw.frames[at - 1].f_code if at else None
            mark = CROSSING if crosses else mark_of(node, above, one.f_code)
            if begins and one is frame and not crosses:
                mark = LOOKED_AT  # apart from calls of the same function
            module = one.f_globals.get("__name__") if isinstance(one, FrameType) else None
            node = self.tree.child(node, one.f_code, module, mark)
            if begins and one is frame and node.real is node and not is_overflow(node):
                node.begins_task = True
            if segment == AWAITED:
                mark_awaited(node)
            if kind == BOUNDARY:
                node.real.kind = BOUNDARY
            if id(one) in own:
                self._frames[id(one)] = node
                node.calls += unnamed
        if not raw.frames or raw.frames[-1] is not frame:  # one that stacks leave out
            node = self.tree.child(node, frame.f_code, frame.f_globals.get("__name__"))
        return node

    def _enter_older(self, frame: FrameType | None, current: greenlet) -> None:
        """Tell yappi of the calls that were under way in a greenlet before it was seen."""
        here = self.here
        here.older.discard(id(current))
        outer = frames_above(frame)
        outer.reverse()
        # What a frame has not got a node for is the one's above it.
        numbers: list[int] = []
        for one in outer:
            node = self._frames.get(id(one))
            numbers.append(node.number if node is not None else [NOWHERE, *numbers][-1])
            if self._gives_back and one.f_code.co_flags & CO_AWAITS:
                here.entered.enter(one)
        answers, here.answers = here.answers, chain(numbers, repeat(NOWHERE))
        try:
            # In C as a whole: nothing of the program's may come between.
            list(map(self._yappi._profile_event, outer, repeat("call"), repeat(None)))
        finally:
            here.answers = answers if here.older else here.quick

    def settle(self) -> None:
        """Nobody asks any more: give back what is still held."""
        for generator in list(self.generators):
            if not generator.gi_running:
                generator.close()
        for entered in list(self.entered):
            entered.forget()
        self.groups.forget()
        self._frames.clear()

    def busy_here(self) -> bool:
        """Whether an answer is being looked for in this thread, by whose signal handler we run."""
        return any(
            getattr(one, "gi_running", False) for one in (self.here.quick, self.here.answers)
        )

    def busy(self) -> bool:
        """Whether an answer is being looked for in any thread."""
        return any(generator.gi_running for generator in list(self.generators))
