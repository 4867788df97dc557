"use strict";

/** What stands above the graph: the header's facts, the warnings, the toolbar and the legend. */

const MOST_OPEN_WARNINGS = 3;
// A sheet of paper is as wide as a narrow window, but nobody has to unfold what is on it.
const NARROW = "screen and (max-width: 720px)";
const NEXT_THEME = { auto: "dark", dark: "light", light: "auto" };
const THEME_SIGNS = { auto: "◐", dark: "☾", light: "☼" };
const THEME_WORDS = { auto: "as the system", dark: "dark", light: "light" };

const BUTTON_HINTS = {
  "view=top": "Who called what, from the task down (t)",
  "view=bottom": "What took the time, its callers below it (b)",
  "view=sandwich": "One function: callers above, callees below (s)",
  "group=all": "All tasks together (g)",
  "group=task": "By task or route; names with numbers folded (g)",
  "group=thread": "By thread (g)",
  "side=before": "Boxes as wide as their time before: what is gone is there (w)",
  "side=after": "Boxes as wide as their time after: what is new is there (w)",
  "switch=mine": "Leave out library code: its time counts for your function that called it (m)",
  "switch=bridges": "Show the library frames that switch greenlets (f)",
  "switch=idle": "Show time with nothing to do (i)",
};

/** Facts that stand beside the title: they tell recordings apart, the others tell what is in it. */
const PROGRAM_FACTS = ["Python", "processes", "recorded"];

/** Fill the header with the payload's title and facts; of a trace, with its own. */
function showHeader(header, profile) {
  const { title, header: facts } = profile.payload;
  header.querySelector("h1").replaceChildren(isolated(title));
  const [program, numbers] = header.querySelectorAll(".facts");
  const known = facts.filter(([label]) => PROGRAM_FACTS.includes(label));
  program.replaceChildren();
  numbers.replaceChildren();
  for (const [label, value, hint] of profile.trace ? [...traceFacts(profile), ...known] : facts) {
    const list = PROGRAM_FACTS.includes(label) ? program : numbers;
    // Other interpreters' versions say their name: "CPython 3.11.7", "PyPy 7.3".
    const named = label === "Python" && !/^\d/.test(value);
    list.append(element("li", { title: hint && `${label}: ${value} (${hint})` },
      element("span", { class: "label" }, named ? "" : label), " ",
      isolated(value, "value", "")));
  }
}

/** Show what a reader must know before believing the numbers. */
function showWarnings(host, warnings) {
  host.hidden = !warnings.length;
  if (!warnings.length) {
    return;
  }
  const list = element("ul", {}, ...warnings.map((text) =>
    element("li", {}, isolated(text, "", ""))));
  const many = warnings.length > MOST_OPEN_WARNINGS;
  const summary = element("summary", {}, plural(warnings.length, "warning"));
  host.replaceChildren(many ? element("details", { open: true }, summary, list) : list);
}

/** The toolbar: every switch of it is a field of the page's state. */
class Toolbar {
  /**
   * @param {HTMLElement} host
   * @param {HTMLElement} header has the buttons that are about the page itself
   * @param {PageState} state
   * @param {function} openHelp
   * @param {string[]} clocks that there is a choice of
   * @param {boolean} sides whether there are two profiles to choose from
   */
  constructor(host, header, state, openHelp, clocks, sides) {
    this.state = state;
    // What there is no choice of is no part of the page.
    if (clocks.length < 2) {
      host.querySelector("[data-clock]").parentElement.remove();
    }
    if (!sides) {
      host.querySelector("#sides").remove();
    }
    const fields = "[data-view], [data-clock], [data-group], [data-side]";
    this.buttons = [...host.querySelectorAll(fields)];
    this.switches = [...host.querySelectorAll("[data-switch]")];
    this.search = host.querySelector("#search");
    this.result = host.querySelector("#search-result");
    this.theme = header.querySelector("[data-theme-switch]");
    for (const button of this.buttons) {
      const [[name, value]] = Object.entries(button.dataset);
      button.title = BUTTON_HINTS[`${name}=${value}`] ?? `${CLOCK_HINTS[value]} (c)`;
      if (name === "clock") {
        button.textContent = CLOCK_LABELS[value];
      }
      button.addEventListener("click", () => this.choose(name, value));
    }
    for (const button of this.switches) {
      const name = button.dataset.switch;
      button.title = BUTTON_HINTS[`switch=${name}`];
      button.addEventListener("click", () => this.choose(name, !state[name]));
    }
    this.search.title = "Letters of a function, a module, a file or a task (/); Enter: next match";
    this.search.addEventListener("input", () =>
      state.set({ q: this.search.value, mark: false }));
    this.theme.addEventListener("click", () => this.nextTheme());
    header.querySelector("[data-help]").addEventListener("click", openHelp);
    state.listen(() => this.show());
    this.show();
  }

  /** Change a field; a box's place in one chart means nothing in another kind of chart. */
  choose(name, value) {
    const changes = { [name]: value };
    if (name === "view" && value !== this.state.view) {
      changes.zoom = "";
    }
    this.state.set(changes);
  }

  /** Go on to the next value of a field that a key turns. */
  turn(name) {
    const values = this.buttons.filter((button) => name in button.dataset)
      .map((button) => button.dataset[name]);
    if (!values.length) {
      return;
    }
    this.choose(name, values[(values.indexOf(this.state[name]) + 1) % values.length]);
  }

  nextTheme() {
    this.state.set({ theme: NEXT_THEME[this.state.theme] });
  }

  show() {
    for (const button of this.buttons) {
      const [[name, value]] = Object.entries(button.dataset);
      button.setAttribute("aria-pressed", String(this.state[name] === value));
    }
    for (const button of this.switches) {
      button.setAttribute("aria-pressed", String(this.state[button.dataset.switch]));
    }
    if (this.search.value !== this.state.q) {
      this.search.value = this.state.q;
    }
    const { theme } = this.state;
    this.theme.textContent = THEME_SIGNS[theme];
    const words = `Theme: ${THEME_WORDS[theme]}`;
    this.theme.setAttribute("aria-label", words);
    this.theme.title = `${words} (d)`;
  }

  /** Say what a search found: {count, groups, weightNs}, or null for no search. */
  showFound(found, whole, { clock, group }) {
    let text = "";
    if (found) {
      const parts = [
        [found.groups.size, group === "thread" ? "thread" : "task"],
        [found.count, "function"],
      ].filter(([count]) => count).map(([count, thing]) => plural(count, thing));
      const share = `${formatPercent(found.weightNs, whole)} of the ${CLOCK_WORDS[clock]}`;
      text = parts.length ? [...parts, share].join(", ") : "nothing holds this text";
    }
    if (this.result.textContent !== text) {
      this.result.textContent = text;
    }
  }
}

/** The legend: only colours that can turn up with the switches as they are. */
class Legend {
  constructor(host, profile) {
    this.host = host;
    this.list = host.querySelector("ul");
    this.found = Legend.categories(profile);
    this.changes = profile.sides !== null;
    const narrow = matchMedia(NARROW);
    const fold = () => { host.open = !narrow.matches; };
    narrow.addEventListener("change", fold);
    fold();
  }

  /** Return the categories of all frames and samples, and whether a greenlet boundary is there. */
  static categories(profile) {
    const found = new Set(["task"]);
    for (let frame = 0; frame < profile.frameFunction.length; frame += 1) {
      const key = profile.functionKey(profile.frameFunction[frame], profile.frameKind[frame], 0);
      found.add(profile.describe(key).category);
      if (profile.frameCrosses[frame]) {
        found.add("boundary");
      }
    }
    for (const category of ["awaiting", "ready", "blocked", "idle"]) {
      if (profile.samples[category].some((ns) => ns > 0)) {
        found.add(category === "awaiting" ? "await" : category);
      }
    }
    if (found.has("bridge")) {
      found.add("boundary");
    }
    return found;
  }

  show({ mine, bridges, idle, group, clock }, dark) {
    if (this.changes) {
      this.list.replaceChildren(...changeLegend(dark, this.found.has("boundary")));
      return;
    }
    const hidden = new Set([
      ...(mine ? ["library", "awaited-library"] : []),
      ...(mine || !bridges ? ["bridge"] : []),
      ...(idle && clock === "wall" ? [] : ["idle"]),
      ...(group === "all" ? ["task"] : []),
      ...({ wall: [], cpu: ["await", "ready", "blocked"], await: ["blocked"] })[clock],
    ]);
    const wanted = (id) => this.found.has(id) && !hidden.has(id);
    const items = CATEGORIES.filter(({ id }) => wanted(id)).map(({ id, label, hint }) => {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      const { fill, pattern, line } = colourOf(id, 0, dark);
      swatch.style.background = pattern
        ? `repeating-linear-gradient(135deg, ${line} 0 2px, ${fill} 2px 5px)` : fill;
      return element("li", { title: hint }, swatch, label);
    });
    if (wanted("boundary")) {
      const swatch = element("span", { class: "swatch line", "aria-hidden": "true" });
      swatch.style.borderColor = boundaryColour(dark);
      const hint = "Above this line another greenlet runs: the one that waits for this one.";
      items.push(element("li", { title: hint }, swatch, "greenlet boundary"));
    }
    this.list.replaceChildren(...items);
  }
}
