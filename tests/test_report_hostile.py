"""A report of a program whose names are hostile, or whose numbers are extreme: nothing runs, breaks or overflows."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from greenprof.printable import printable
from greenprof.profiles import (
    Frame,
    FrameKind,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    State,
)
from tests.profiles import AWAIT, EXECUTE, FETCH, MS, SECOND, SPAWN, app, library, orders_profile
from tests.report_pages import (
    Reports,
    assert_sound,
    every_switch,
    every_tab,
    hover,
    reload,
)

HOSTILE = {
    "script": "</script><script>window.hacked=1</script>",
    "comment": "<!--<script>--!><!--",
    "style": "</style></title></textarea><svg onload=window.hacked=1>",
    "image": "<img src=x onerror=window.hacked=1>",
    "attributes": "\"' onmouseover=window.hacked=1 autofocus onfocus=window.hacked=1 x='",
    "quotes": "'\"`´\\'\\\"",
    "template": "${window.hacked=1}`${window.hacked=1}`{{constructor.constructor('window.hacked=1')()}}",
    "address": "javascript:window.hacked=1",
    "entities": "&lt;b&gt;&amp;&#60;&quot;%3Cscript%3E\\u003c",
    "pattern": "(?:[a-z]+)+$^.*\\",
    "controls": "".join(map(chr, [*range(32), *range(0x7F, 0xA0)])),
    "direction": "\u202eexe.gpj\u202c \u2066isolated\u2069 \u200f\u061c\u200b",
    "right-to-left": "\u05e9\u05dc\u05d5\u05dd \u0639\u0627\u0644\u0645",
    "separators": "one\u2028two\u2029three\u0085four\u00a0five",
    "surrogates": "\ud800 \udfff \udce9",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9",
    "marks": "Z" + "\u0301\u0323" * 40,
    "long": "W" * 10_000,
    "long words": "lorem ipsum " * 900,
    "empty": "",
    "space": " ",
    "proto": "__proto__",
    "constructor": "constructor",
    "method": "toString",
    "digits": "12.45.3",
    "fragment": "#zoom=1&fn=2&q=<b>",
}
each_name = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)


def shown(name: str) -> str:
    """What the page should say for a name: its letters, escaped, and no more than a thousand of them."""
    text = printable(name)
    return text if len(text) <= 1000 else f"{text[:999]}…"


def add_stack(builder: ProfileBuilder, name: str) -> None:
    """Everything that a program can name, named so: functions of each kind, a task, a thread."""
    thread = builder.thread(name)
    group, other = builder.group(name, "asyncio"), builder.group(name, name)
    builder.count_tasks(group, 3)
    yours = Frame(name, name, 7, 5, module=name)
    bridge = Frame(name, name, 8, 5, FrameKind.BOUNDARY, FrameOrigin.LIBRARY, name)
    awaited = Frame(name, name, 9, 6, FrameKind.AWAITED, FrameOrigin.APP, name)
    imported = Frame(name, f"/lib/{name}", 10, 7, origin=FrameOrigin.STDLIB, module=name)
    node = builder.stack([yours, EXECUTE, bridge, yours, AWAIT, awaited, imported])
    builder.add(group, thread, node, State.AWAITING, 10, 100 * MS, 0)
    builder.add(group, thread, node, State.READY, 3, 30 * MS, 0)
    builder.add(group, thread, builder.stack([yours, imported]), State.ON_CPU, 9, 90 * MS, 80 * MS)
    builder.add(other, thread, builder.stack([imported]), State.BLOCKED, 2, 20 * MS, MS)
    builder.add(other, thread, -1, State.IDLE, 2, 20 * MS, 0)


def named(*names: str) -> Profile:
    builder = ProfileBuilder()
    for name in names:
        add_stack(builder, name)
    name = "".join(names)
    info = ProfileInfo(
        command=name, python=name, greenprof=name, started_at=name, duration_ns=SECOND,
        process_cpu_ns=SECOND // 2, rate_hz=100.0, ticks=100, warnings=list(names),
    )  # fmt: skip
    return builder.build(info)


def text_of(page: Page, selector: str) -> str:
    return page.locator(selector).text_content() or ""


@each_name
def test_a_name_is_shown_escaped_and_runs_nothing(report: Reports, name: str) -> None:
    """In every place, and as what is searched, filtered and chosen."""
    page = report(named(name))
    expected = shown(name)
    assert expected in text_of(page, "h1")
    assert expected in text_of(page, "#warnings")
    for tab in every_tab(page):
        if tab != "lines":
            rows = page.locator("#tables tr[data-row]").all_text_contents()
            assert any(expected in row for row in rows), tab
        assert_sound(page)
    hover(page)
    page.wait_for_selector("#tooltip:not([hidden])")
    assert expected in text_of(page, "#tooltip")
    assert_sound(page)

    text = expected[:100]
    page.click("[data-tab=functions]")
    page.fill("#search", text)
    page.fill("#filter", text)
    reload(page)
    assert (page.input_value("#search"), page.input_value("#filter")) == (text, text)
    if text.strip():
        assert "%" in text_of(page, "#search-result")
    page.locator("#tables tr[data-row]").first.click()
    page.click("[data-view=sandwich]")
    page.click("[data-tab=lines]")
    assert_sound(page)


@pytest.mark.parametrize("width", [1280, 400])
def test_all_of_them_at_once_overflow_nowhere(report: Reports, width: int) -> None:
    page = report(named(*HOSTILE.values()), width=width)
    for _ in every_tab(page):
        assert_sound(page)
    for _ in every_switch(page):
        hover(page)
        assert_sound(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    assert_sound(page)


@pytest.mark.parametrize(
    "fragment",
    [
        "zoom=99999.1.-5&fn=1e9&view=__proto__&clock=toString&group=constructor&tab=hasOwnProperty",
        "q=%3Cscript%3Ewindow.hacked%3D1%3C/script%3E&filter=%FF%FE&sort=__proto__-&theme=%00",
        "mine=constructor&bridges=__proto__&idle=toString",
        "view=sandwich&fn=-1&zoom=0.0.0.0",
        "view=sandwich&fn=NaN&zoom=....&tab=lines",
        "<img src=x onerror=window.hacked=1>&=&&&==&%",
        "__proto__=1&constructor.prototype.hacked=1&hacked=1",
        "zoom=" + "1." * 50_000,
    ],
)
def test_a_fragment_that_nobody_wrote_falls_back(report: Reports, fragment: str) -> None:
    page = report(orders_profile(), fragment)
    assert_sound(page)
    assert page.evaluate("() => ({}).hacked") is None
    for _ in every_tab(page):
        assert_sound(page)


def sampled(state: State, count: int, wall_ns: int, cpu_ns: int, depth: int = 1) -> Profile:
    builder = ProfileBuilder()
    group, thread = builder.group("GET /", "asyncio"), builder.thread("MainThread")
    builder.count_tasks(group)
    node = builder.stack([app(f"level_{level % 50}", level) for level in range(depth)])
    builder.add(group, thread, node, state, count, wall_ns, cpu_ns)
    return builder.build(ProfileInfo(command="app.py", duration_ns=wall_ns, ticks=count))


HOURS_NS = 1_000_000 * 3600 * SECOND
EXTREMES = {
    "empty": Profile(),
    "one sample": sampled(State.ON_CPU, 1, 10 * MS, 10 * MS),
    "idle only": sampled(State.IDLE, 100, SECOND, 0, depth=0),
    "idle only, with a stack": sampled(State.IDLE, 100, SECOND, 0, depth=3),
    "awaiting only": sampled(State.AWAITING, 10, SECOND, 0, depth=4),
    "blocked only": sampled(State.BLOCKED, 10, SECOND, 0, depth=4),
    "no times": sampled(State.ON_CPU, 5, 0, 0, depth=4),
    "a nanosecond": sampled(State.ON_CPU, 1, 1, 1, depth=4),
    "a million hours": sampled(State.ON_CPU, 2**53, HOURS_NS, HOURS_NS, depth=4),
    "more CPU than time": sampled(State.ON_CPU, 5, SECOND, 3 * SECOND, depth=4),
    "500 levels": sampled(State.AWAITING, 5, SECOND, 0, depth=500),
    "a function without a file": ProfileBuilder().build(ProfileInfo(command="-c", rate_hz=0.0)),
}


# Every view, clock, group, switch and table, and the graph's own keys in each view.
KEYS = "b ArrowDown Enter s ArrowUp Escape t ArrowDown ArrowDown Enter ArrowRight + - Escape Home"
SWITCHES = "c c g g m f i n d 1 2 3 4 m f i c g s b t"


@pytest.mark.parametrize("profile", EXTREMES.values(), ids=EXTREMES)
def test_extreme_profiles_work_in_every_view(report: Reports, profile: Profile) -> None:
    page = report(profile)
    assert_sound(page)
    hover(page)
    for key in SWITCHES.split():
        page.keyboard.press(key)
        assert_sound(page)
    page.set_viewport_size({"width": 400, "height": 700})
    if page.locator(".flame-canvas").is_visible():
        page.locator(".flame-canvas").focus()
    for key in KEYS.split():
        page.keyboard.press(key)
    assert_sound(page)
    page.keyboard.press("?")
    assert_sound(page)


def huge_profile(stacks: int = 20_000) -> Profile:
    """Many stacks, of different depths and one of 500 levels; a million hours beside nothing."""
    builder = ProfileBuilder()
    threads = [builder.thread(f"worker-{number}") for number in range(8)]
    groups = [builder.group(f"GET /route/{number}/{{}}", "asyncio") for number in range(200)]
    yours = [
        Frame(
            f"handler_{n}",
            f"/srv/app/part_{n % 90}.py",
            n % 400,
            n % 40,
            module=f"app.part_{n % 90}",
        )
        for n in range(3000)
    ]
    theirs = [
        library(f"package_{n % 40}.module_{n}", f"function_{n}", n % 900) for n in range(2000)
    ]
    states = list(State)
    for number in range(stacks):
        frames = [
            yours[number % 7],
            yours[number % 3000],
            EXECUTE,
            SPAWN,
            theirs[number * 7 % 2000],
            yours[number * 13 % 3000],
            AWAIT,
            FETCH,
        ]
        state = states[number % 5]
        builder.add(
            groups[number % 200], threads[number % 8], builder.stack(frames[: 2 + number % 7]), state,
            1 + number % 9, HOURS_NS if number == 17 else number * MS, number * MS // 2 if state is State.ON_CPU else 0,
        )  # fmt: skip
        builder.count_tasks(groups[number % 200])
    deep = builder.stack([yours[level % 40] for level in range(500)])
    builder.add(groups[0], threads[0], deep, State.ON_CPU, 100, 10**9 * SECOND, 10**9 * SECOND)
    builder.add(groups[1], threads[1], deep, State.READY, 1, 0, 0)
    return builder.build(
        ProfileInfo(command="huge.py", duration_ns=HOURS_NS, ticks=10**9, rate_hz=1000.0)
    )


def test_a_huge_profile_works_in_every_view(report: Reports) -> None:
    page = report(huge_profile())
    assert_sound(page)
    for _ in every_tab(page):
        assert_sound(page)
        # Rows are drawn as they are looked at, not all at once.
        assert page.locator("#tables tr[data-row]").count() < 1000
    for _ in every_switch(page):
        assert_sound(page)
    page.fill("#search", "handler_29")
    page.wait_for_timeout(300)
    assert "%" in (page.locator("#search-result").text_content() or "")
