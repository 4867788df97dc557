"use strict";

// A page of two profiles: what a box or a row took before, and how it changed.
//
// Samples are those after, then those before (payload.before.split says where). One of the two is
// drawn: its times are widths, and those of the other profile's samples are 0. The trees of both
// are alike, node by node, for they are made of all samples.

/** From which part of the larger one on a change has a colour: by 5 %, by a quarter, by half. */
const CHANGE_STEPS = [1 - 1 / 1.05, 1 - 1 / 1.25, 0.5];
/** As greenprof/differences/chance.py: standard errors below which a change is noise, or may be. */
const NOISE_ERRORS = 2;
const CLEAR_ERRORS = 3;
const MANY_TIMES = 10;

const CHANGE_KEY = [
  ["less3", "half or less"],
  ["less2", "a fifth less"],
  ["less1", "5 % less"],
  ["same", "alike, or chance"],
  ["more1", "5 % more"],
  ["more2", "a quarter more"],
  ["more3", "twice or more, new"],
];

/** The two sides of a profile that has a before: which is drawn, and the other's samples. */
class Sides {
  constructor(profile) {
    this.profile = profile;
    this.drawn = "after";
    const { split, tasks } = profile.payload.before;
    this.samples = {
      after: Sides.#part(profile.samples, 0, split),
      before: Sides.#part(profile.samples, split),
    };
    this.looks = {
      after: Sides.#observed(this.samples.after), before: Sides.#observed(this.samples.before),
    };
    this.tasks = { after: profile.groups.tasks, before: tasks };
    this.#take(this.samples, "after");
  }

  get other() {
    return this.drawn === "after" ? "before" : "after";
  }

  /** Draw "before" or "after". */
  draw(side) {
    this.drawn = side;
    this.#take(this.samples, side);
  }

  /** {before, after}: what `made` makes of the profile while that side is the one drawn. */
  each(made) {
    return this.#both(this.samples, made);
  }

  /** The same, with numbers of samples in the place of nanoseconds. */
  eachOfLooks(made) {
    return this.#both(this.looks, made);
  }

  /** {before, after}: what is known of the side that is drawn, and of the other one. */
  named(drawn, other) {
    return { [this.drawn]: drawn, [this.other]: other };
  }

  #both(samples, made) {
    const found = {};
    try {
      for (const side of ["before", "after"]) {
        this.#take(samples, side);
        found[side] = made();
      }
    } finally {
      this.#take(this.samples, this.drawn);
    }
    return found;
  }

  #take(samples, side) {
    this.profile.takeSide(samples[side], this.tasks[side]);
  }

  // The samples with times and counts from one place to another only.
  static #part(samples, from, to) {
    const part = { ...samples };
    for (const name of ["count", "wall", "cpu", "awaiting", "ready", "blocked", "idle"]) {
      part[name] = samples[name].slice();
      part[name].fill(0, 0, from);
      if (to !== undefined) {
        part[name].fill(0, to);
      }
    }
    part.waits = [null, part.awaiting, part.ready, part.blocked, part.idle];
    return part;
  }

  // As `observed` in greenprof/differences/chance.py.
  static #observed({ count, wall, cpu, state, ...rest }) {
    const looks = { ...rest, count, wall: count, state, cpu: new Float64Array(count.length) };
    looks.waits = [null, ...["awaiting", "ready", "blocked", "idle"].map((name) => {
      looks[name] = new Float64Array(count.length);
      return looks[name];
    })];
    count.forEach((seen, sample) => {
      const share = state[sample] === 0 || wall[sample] === 0 ? 1 : cpu[sample] / wall[sample];
      looks.cpu[sample] = Math.floor(seen * Math.min(share, 1));
      if (state[sample] > 0) {
        looks.waits[state[sample]][sample] = seen - looks.cpu[sample];
      }
    });
    return looks;
  }
}

/** A time before and after, and in how many samples each was seen. */
function changeOf({ before, after }, { before: seenBefore, after: seenAfter } = {}, exact = false) {
  const by = after - before;
  const variance = (time, seen) => time ** 2 / Math.max(seen ?? 1, 1);
  const error = Math.sqrt(variance(before, seenBefore) + variance(after, seenAfter));
  const clear = exact || Math.abs(by) >= CLEAR_ERRORS * error;
  const chance = clear ? "" : Math.abs(by) >= NOISE_ERRORS * error ? "maybe" : "noise";
  return { before, after, by, chance: by === 0 ? "" : chance };
}

/** How a change looks: "more" or "less" and how much of it (1 to 3), or "same". */
function changeCategory({ before, after, by, chance }) {
  const share = Math.abs(by) / Math.max(before, after, 1);
  const level = CHANGE_STEPS.filter((step) => share >= step).length;
  return level === 0 || chance === "noise" ? "same" : `${by > 0 ? "more" : "less"}${level}`;
}

/** A change of nanoseconds with its sign, as in greenprof/exporters/difference.py. */
function formatChange(by) {
  return by === 0 ? "-" : `${by > 0 ? "+" : "-"}${formatDuration(Math.abs(by))}`;
}

/** A change in proportion: "+12 %", "x25", "new", "gone"; "-" for none. */
function formatRatio({ before, after }) {
  if (before === after) {
    return "-";
  }
  if (before <= 0 || after <= 0) {
    return before > 0 ? "gone" : "new";
  }
  if (after >= MANY_TIMES * before) {
    return `x${formatCount(roundedText(after / before, 0))}`;
  }
  const share = (100 * (after - before)) / before;
  const text = roundedText(Math.abs(share), Math.abs(share) >= 9.95 ? 0 : 1);
  return `${share < 0 ? "-" : "+"}${text} %`;
}

/** For sorting by proportion: what is new comes first, what is gone last. */
function ratioOf({ before, after }) {
  return before > 0 ? after / before : after > 0 ? Infinity : 1;
}

/** Own or total observations of a tree's nodes under a clock. */
function seenNodes(tree, clock, own) {
  tree.seenUnder ??= {};
  const name = `${clock} ${own}`;
  if (!tree.seenUnder[name]) {
    const wanted = TIMES.map((time) => CLOCK_TIMES[clock].includes(time));
    const seen = tree.seen.map((count, node) => (wanted[tree.kindOf(node)] ? count : 0));
    for (let node = tree.size - 1; node > 0 && !own; node--) {
      seen[tree.parent[node]] += seen[node];
    }
    tree.seenUnder[name] = seen;
  }
  return tree.seenUnder[name];
}

/** What a box took before and after, under its chart's clock: {before, after, by, chance}. */
function boxChange(box) {
  box.change ??= madeBoxChange(box);
  return box.change;
}

function madeBoxChange(box) {
  const { tree, view, clock } = box.chart;
  const { sides, payload } = tree.profile;
  const own = view === "bottom" && box.parent !== null;
  const of = (its) => (own ? its.ownWeights(clock) : its.weights(clock));
  const sum = (column) => {
    const { nodes, leaves, begin, end } = box.nodes;
    let total = 0;
    for (let index = begin; index < end; index++) {
      total += column[(leaves ?? nodes)[index]];
    }
    return total;
  };
  const both = (column) => sides.named(sum(column(tree)), sum(column(tree.other)));
  return changeOf(both(of), both((its) => seenNodes(its, clock, own)), payload.exact);
}

/** The figures of a box, see Box.figures: {before, after}. */
function boxFigures(box) {
  const { tree } = box.chart;
  return tree.profile.sides.named(box.times(), box.times(tree.other));
}

/** What is said of a box to those who listen. */
function changeSentence(box) {
  const change = boxChange(box);
  const chance = { "": "", maybe: ", which may be chance", noise: ", which is noise" };
  return change.by === 0 ? "no change"
    : `${formatRatio(change)} ${formatChange(change.by)} from before${chance[change.chance]}`;
}

/** The table of a box's figures: before, after and how they changed, by clock. */
function changeFigures(box, chart, clock) {
  const { before, after } = boxFigures(box);
  const { payload } = chart.tree.profile;
  const clocks = clocksOf(payload);
  const some = (id) => before[id].total + after[id].total > 0;
  const columns = FIGURE_COLUMNS.filter((id) =>
    (RARE_FIGURES.includes(id) ? some(id) : clocks.includes(id)));
  const line = (label, title, text) => element("tr", {},
    element("th", { scope: "row", title }, label),
    ...columns.map((id) => element("td", { class: id === clock ? "current" : "" }, text(id))));
  const total = (id) => ({ before: before[id].total, after: after[id].total });
  const own = (id) => after[id].self - before[id].self;
  const head = element("tr", {}, element("td"), ...columns.map((id) => element("th", {
    scope: "col", class: id === clock ? "current" : "",
    title: FIGURE_HINTS[id] ?? CLOCK_HINTS[id],
  }, CLOCK_LABELS[id] ?? id)));
  const time = (ns) => (ns ? formatDuration(ns) : "-");
  return element("table", { class: "numbers changes" },
    element("thead", {}, head),
    element("tbody", {},
      line("before", "In itself and in all that it called", (id) => time(before[id].total)),
      line("after", "The same in the other profile", (id) => time(after[id].total)),
      line("change", "After less before", (id) => formatChange(total(id).after - total(id).before)),
      line("", "In proportion to before", (id) => formatRatio(total(id))),
      line("self", "How much its own time changed", (id) => formatChange(own(id)))));
}

/** How well a box's change is known. */
function changeSeen(box) {
  const { before, after } = boxFigures(box);
  const { exact } = box.chart.tree.profile.payload;
  const seen = `${formatCount(before.seen)} → ${formatCount(after.seen)}`;
  const chance = {
    "": "", maybe: "; the change may be chance", noise: "; such a change is noise",
  }[boxChange(box).chance];
  return exact ? `calls ${seen}` : `seen ${seen} times${chance}`;
}

/** How a box is drawn, see colourOf: by how it changed. */
function changeColour(box, dark, tone) {
  const category = changeCategory(boxChange(box));
  const waits = HATCHED.has(box.info.category) ? HATCHED_END : "";
  return colourOf(category + waits, box.key, dark, tone);
}

/** What a box says of its change: "+1.23 s, +12 %". */
function changeLabel(box) {
  const change = boxChange(box);
  return change.by === 0 ? "as before" : `${formatChange(change.by)}, ${formatRatio(change)}`;
}

/** The items of the legend. */
function changeLegend(dark, hasBoundary) {
  const item = (hint, label, ...swatches) => element("li", { title: hint }, ...swatches, label);
  const swatch = (category) => {
    const made = element("span", { class: "swatch", "aria-hidden": "true" });
    made.style.background = colourOf(category, 0, dark).fill;
    return made;
  };
  const items = CHANGE_KEY.map(([category, label]) =>
    item("Time after, in proportion to the time before", label, swatch(category)));
  const hatched = swatch("same");
  const { line, fill } = colourOf(`same${HATCHED_END}`, 0, dark);
  hatched.style.background = `repeating-linear-gradient(135deg, ${line} 0 2px, ${fill} 2px 5px)`;
  items.push(item("[await]: suspended; what it awaited was not there yet", "waiting", hatched));
  if (hasBoundary) {
    const edge = element("span", { class: "swatch line", "aria-hidden": "true" });
    edge.style.borderColor = boundaryColour(dark);
    items.push(item("Above this line another greenlet runs", "greenlet boundary", edge));
  }
  return items;
}
