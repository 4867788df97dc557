"use strict";

/**
 * What is known of one box of the graph: the tooltip beside the pointer, and the strip below the
 * graph for the box that is selected.
 */

const FIGURE_COLUMNS = ["wall", "cpu", "await", "blocked", "idle"];
/** Shown where a box has such time. */
const RARE_FIGURES = ["blocked", "idle"];
const COPY_LABEL = "copy name";
const FIGURE_HINTS = {
  wall: "Wall clock of the tasks: the other columns together; times of tasks add up",
  await: "Wall time suspended: awaiting, or ready while the loop was busy",
  blocked: "Wall time inside calls that blocked the thread, less the CPU time used there",
  idle: "Threads with nothing to do",
};

class BoxDetails {
  /**
   * @param {ReportProfile} profile
   * @param {HTMLElement} tooltip
   * @param {HTMLElement} strip
   * @param {{zoom: function(box), sandwich: function(fn), lines: function(fn)}} actions
   */
  constructor(profile, tooltip, strip, actions) {
    this.profile = profile;
    this.tooltip = tooltip;
    this.strip = strip;
    this.actions = actions;
    this.hovered = null;
    this.pending = 0;
    this.who = element("div", { class: "who" });
    this.numbers = element("table");
    this.buttons = this.makeButtons();
    this.strip.replaceChildren(this.who, this.numbers,
      element("div", { class: "actions" }, ...Object.values(this.buttons)));
  }

  /** Show the tooltip for a box near a point of the window; none for null. */
  hover(box, point, chart, clock) {
    cancelAnimationFrame(this.pending);
    if (!box) {
      this.hovered = null;
      this.tooltip.hidden = true;
      return;
    }
    // A fast pointer crosses more boxes than a screen can show.
    this.pending = requestAnimationFrame(() => {
      if (box !== this.hovered) {
        this.hovered = box;
        this.tooltip.replaceChildren(
          this.makeName(box, "p"), this.makeAbout(box, "p"), this.makeFigures(box, chart, clock),
          this.makeSeen(box, "p"),
        );
      }
      this.tooltip.hidden = false;
      this.place(point);
    });
  }

  place({ x, y }) {
    const { width, height } = this.tooltip.getBoundingClientRect();
    const right = document.documentElement.clientWidth;
    const bottom = document.documentElement.clientHeight;
    const gap = 14;
    const left = x + gap + width > right ? x - gap - width : x + gap;
    const top = y + gap + height > bottom ? y - gap - height : y + gap;
    this.tooltip.style.left = `${Math.max(4, Math.min(left, right - width - 4))}px`;
    this.tooltip.style.top = `${Math.max(4, Math.min(top, bottom - height - 4))}px`;
  }

  /**
   * Fill the strip. `isZoomed`: the box is the one that the graph is zoomed to; `folded`: library
   * code counts as its caller's own.
   */
  show(box, chart, clock, { isZoomed, folded }) {
    const { type, fn } = box.info;
    this.shown = box;
    this.who.replaceChildren(
      this.makeName(box, "h2"), this.makeAbout(box, "p"), this.makeSeen(box, "p"));
    const numbers = this.makeFigures(box, chart, clock, folded);
    this.numbers.replaceWith(numbers);
    this.numbers = numbers;
    // The buttons stay the same ones: the keyboard's focus may be on one.
    const { zoom, sandwich, lines, copy } = this.buttons;
    zoom.disabled = isZoomed;
    zoom.hidden = copy.hidden = type === "root";
    sandwich.hidden = fn < 0;
    lines.hidden = fn < 0 || this.profile.payload.exact || this.profile.sides !== null;
  }

  makeName(box, tag) {
    return element(tag, { class: "name" }, isolated(this.nameOf(box)));
  }

  nameOf(box) {
    const { fn, label } = box.info;
    return fn >= 0 ? this.profile.functionLabel(fn) : label;
  }

  makeAbout(box, tag) {
    const { place, category, crosses, bridge, fn, type } = box.info;
    const known = CATEGORIES.find((one) => one.id === category);
    const word = known && category !== "task" ? known.label : type === "root" ? "everything" : type;
    const about = element(tag, { class: "about" });
    if (place) {
      const path = fn >= 0 ? this.profile.functionPath(fn) : place;
      about.append(isolated(place, "place", path), " ");
    }
    about.append(element("span", { class: "kind", title: known?.hint }, word));
    if (crosses || bridge) {
      about.append(" ", element("span", { class: "kind crosses" },
        isolated(bridge || "greenlet boundary")));
    }
    return about;
  }

  makeFigures(box, chart, clock, folded = false) {
    if (this.profile.sides) {
      return changeFigures(box, chart, clock);
    }
    const figures = box.figures();
    const clocks = clocksOf(this.profile.payload);
    const rows = FIGURE_COLUMNS.filter((id) =>
      (RARE_FIGURES.includes(id) ? figures[id].total : clocks.includes(id)));
    const hint = folded ? "In itself and in the library code that it called" : "In itself";
    // Towards callers, a box has what came through it, not all that its function called.
    const isCaller = box instanceof UpBox && box.depth > 0;
    const innermost = chart.view === "bottom" && box.depth === 1;
    const all = isCaller
      ? ["here", innermost ? "All of its own time" : "The time that came through this caller"]
      : ["total", "In itself and in all that it called"];
    const head = element("tr", {}, element("td"), ...rows.map((id) =>
      element("th", {
        scope: "col", class: id === clock ? "current" : "",
        title: FIGURE_HINTS[id] ?? CLOCK_HINTS[id],
      }, CLOCK_LABELS[id] ?? id)));
    const line = (part, label, title) =>
      element("tr", {}, element("th", { scope: "row", title }, label), ...rows.map((id) =>
        element("td", { class: id === clock ? "current" : "" },
          figures[id][part] ? formatDuration(figures[id][part]) : "-")));
    const table = element("table", { class: "numbers" },
      element("thead", {}, head),
      element("tbody", {}, line("self", "self", hint),
        line("total", ...all)));
    const whole = chart.whole;
    if (whole) {
      const share = element("tr", {},
        element("th", { scope: "row", title: "Share of the total of everything" }, "share"),
        ...rows.map((id) => element("td", { class: id === clock ? "current" : "" },
          id === clock ? formatPercent(box.weight, whole) : "")));
      table.tBodies[0].append(share);
    }
    return table;
  }

  makeSeen(box, tag) {
    const { seen, tasks, groups } = box.figures();
    const said = element(tag, { class: "seen" },
      this.profile.sides ? changeSeen(box)
        : this.profile.payload.exact ? saidOfCalls(box, seen) : `seen ${plural(seen, "time")}`);
    if (!tasks) {
      return said;
    }
    said.append(`, ${plural(tasks, "task")}`);
    groups.slice(0, 3).forEach((name, place) => {
      said.append(place ? ", " : ": ", isolated(name));
    });
    if (groups.length > 3) {
      said.append(", …");
    }
    return said;
  }

  makeButtons() {
    const button = (label, title, act) => {
      const made = element("button", { type: "button", title }, label);
      made.addEventListener("click", () => act(this.shown, made));
      return made;
    };
    return {
      zoom: button("zoom", "Let this box fill the width (Enter)",
        (box) => this.actions.zoom(box)),
      sandwich: button("sandwich", "All callers above, all callees below",
        (box) => this.actions.sandwich(box.info.fn)),
      lines: button("lines", "The lines of this function",
        (box) => this.actions.lines(box.info.fn)),
      copy: button(COPY_LABEL, "Copy the name",
        (box, made) => copyText(this.nameOf(box), made)),
    };
  }
}

/** How often a box's function was called; of a caller above it, and of a task, what is in it. */
function saidOfCalls(box, seen) {
  if (box.info.type !== "function") {
    return plural(seen, "call");
  }
  const innermost = box.chart.view === "bottom" ? 1 : 0;
  return box instanceof UpBox && box.depth > innermost
    ? `${plural(box.calls(), "call")} by this way` : `called ${plural(box.calls(), "time")}`;
}

/** Copy a text, and say on the button how that went. */
async function copyText(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyBySelection(text);
  }
  button.textContent = done ? "copied" : "not allowed";
  setTimeout(() => { button.textContent = COPY_LABEL; }, 1500);
}

/** For pages that were opened from a file, where some browsers have no clipboard. */
function copyBySelection(text) {
  const before = document.activeElement;
  const area = element("textarea", { class: "offscreen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}
