"use strict";

/** The keys of the page, and the dialog that lists them with the words that the page uses. */

const HELP_KEYS = [
  ["The graph", [
    ["click, Enter", "zoom to the box"],
    ["Esc, Backspace", "zoom out a level"],
    ["Home", "zoom out to everything"],
    ["← ↑ → ↓", "go to the next box"],
    ["drag, Shift + wheel", "move sideways"],
    ["Ctrl + wheel, + −", "zoom around the pointer"],
  ]],
  ["What is shown", [
    ["t  b  s", "top-down, bottom-up, sandwich"],
    ["c", "next clock"],
    ["g", "next group: all, by task, by thread"],
    ["m", "my code only"],
    ["f", "bridge internals, folded or not"],
    ["i", "idle time"],
    ["w", "of two profiles: widths before, after"],
    ["r", "one trace, where spans were recorded"],
  ]],
  ["Find", [
    ["/", "search"],
    ["Enter, Shift + Enter", "in the search: next, previous match"],
    ["n  N", "the same, anywhere else"],
    ["Esc", "end the search; in the filter, end the filter"],
  ]],
  ["The page", [
    ["1 2 3 …", "the tables, from left to right"],
    ["↑ ↓ Enter", "in a table: choose a row, go to it in the graph"],
    ["d", "dark, light, as the system"],
    ["?", "this help"],
  ]],
];

/** The words; of those with a condition, only the ones that a profile has. */
const HELP_WORDS = [
  ["wall", "time lived by tasks: CPU, waiting and blocked. Tasks wait side by side, so their times "
    + "add up to more than the program's duration."],
  ["CPU", "time on a processor.", ({ running }) => running === "CPU"],
  ["run", "time in functions that ran, or were in a call that blocks; the wall clock's, not the "
    + "processor's.", ({ running }) => running !== "CPU"],
  ["calls", "how often a function was called, exactly; resumptions of a generator or a coroutine "
    + "are no calls.", ({ exact }) => exact],
  ["awaits", "each await over a bridge, counted and timed; p95: of a hundred, five took longer. "
    + "While the graph is zoomed, those that were first seen below the box are listed, with all "
    + "their figures.", ({ awaits }) => awaits.fn.length > 0],
  ["repeats", "awaits of one operation that one task, or request, made again and again at one line: "
    + "a query in a loop.", ({ repeats }) => repeats.fn.length > 0],
  ["blockers", "lines that kept an event loop, and all its other tasks, from going on for longer "
    + "than a limit.", ({ blocks }) => blocks.fn.length > 0],
  ["await", "time that tasks were suspended: awaiting or ready."],
  ["awaiting", "what the task awaits is not there yet."],
  ["ready", "what it awaits is there, but something else keeps the event loop busy."],
  ["blocked", "inside a call that holds up the thread, and with it the event loop."],
  ["bridge", "library code that lets sync code await, by switching greenlets. Its frames are "
    + "folded away; a dashed line, the greenlet boundary, is where they were."],
  ["trace", "OpenTelemetry's: the samples that were taken while one of its spans was current."],
  ["await site", "the line of your code that waited, whatever libraries lie between."],
  ["self, total", "in the function itself; in it and all that it called. Recursion counts once."],
  ["before, after", "the two profiles. Boxes are as wide as their time in one of them, and have the "
    + "colour of what changed: red for more, blue for less, grey for alike.",
  ({ before }) => before !== undefined],
  ["noise, maybe", "as large a change is to be expected of sampling alone, or now and then: it is "
    + "below 2, or 3, standard errors of the numbers of samples.",
  ({ before, exact }) => before !== undefined && !exact],
  ["link", "the address of the page holds all that you chose: it can be sent or kept."],
];

/** Fill the help dialog and return what opens it. */
function makeHelp(dialog, payload) {
  const facts = payload.header;
  const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.addEventListener("click", () => dialog.close());
  const keys = HELP_KEYS.map(([title, rows]) => element("section", {},
    element("h3", {}, title),
    element("dl", {}, ...rows.flatMap(([names, text]) => [
      element("dt", {}, ...keyNames(names)), element("dd", {}, text)]))));
  const words = element("dl", { class: "words" }, ...HELP_WORDS
    .filter(([, , applies = () => true]) => applies(payload))
    .flatMap(([word, text]) => [element("dt", {}, word), element("dd", {}, text)]));
  const noted = facts.filter((fact) => fact[2]).map(([label, value, note]) =>
    [element("dt", {}, label), element("dd", {}, isolated(value, "", ""), " (",
      isolated(note, "", ""), ")")]);
  dialog.replaceChildren(
    close,
    element("h2", { id: "help-title" }, "Reading this report"),
    element("div", { class: "keys" }, ...keys),
    element("h3", {}, "Words"), words,
    ...(noted.length ? [element("h3", {}, "This recording"),
      element("dl", { class: "words" }, ...noted.flat())] : []),
  );
  // A click beside the dialog lands on the dialog element itself: its content has a box of its own.
  dialog.addEventListener("click", (event) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const inside = event.clientX >= left && event.clientX <= right
      && event.clientY >= top && event.clientY <= bottom;
    if (event.target === dialog && !inside) {
      dialog.close();
    }
  });
  return () => {
    if (!dialog.open) {
      dialog.showModal();
    }
  };
}

/** Each key in an element of its own; words between them as they are. */
function keyNames(names) {
  return names.split(/(, | \+ | +)/).map((part) =>
    (/^(, | \+ | +)$/.test(part) || part === "" || /^(click|drag|wheel)$/.test(part)
      ? part : element("kbd", {}, part)));
}

/**
 * Call `actions[key]` for keys that are typed outside of fields.
 * Those with Ctrl, Alt or Meta are the browser's.
 */
function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const typing = target instanceof Element && target.closest("input, textarea, select");
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey
      || document.querySelector("dialog[open]") || (typing && key !== "Escape")) {
      return;
    }
    if (Object.hasOwn(actions, key) && actions[key](event) !== false) {
      event.preventDefault();
    }
  });
}
