"use strict";

/** Ways to a box of a chart, by the path in the address, by a search, by its function; or none. */

const MOST_MATCHES = 1000;
const LEAST_MATCH_SHARE = 1e-4;

/** Return the box that a path of keys leads to, or the last one on the way that is there. */
function boxOnPath(chart, path) {
  for (let length = path.length; length > 0; length -= 1) {
    const box = chart.boxAt(path.slice(0, length));
    if (box) {
      return box;
    }
  }
  return null;
}

/**
 * Return the box of another tree's chart that is most like the one that a path led to: switches
 * fold frames away, unfold others, and put tasks above them.
 */
function boxLike(chart, path) {
  const { profile } = chart.tree;
  const sandwich = chart.view === "sandwich";
  const keys = sandwich ? path.slice(1) : path;
  const fnOf = (key) => profile.functionOf(key);
  // The kind of a frame and the boundary above it are parts of its key; a switch may change both.
  const alike = (key, other) => key === other || (fnOf(key) >= 0 && fnOf(key) === fnOf(other));
  let box = sandwich && path[0] === 1 ? chart.up : chart.down;
  let last = -1;
  for (const key of keys) {
    const child = box.children.find((one) => alike(one.key, key));
    box = child ?? box;
    last = child ? key : last;
  }
  const wanted = keys.length ? keys[keys.length - 1] : -1;
  if (last === wanted || fnOf(wanted) < 0 || chart.view !== "top") {
    return box;
  }
  return chart.heaviest(fnOf(wanted)) ?? box;
}

/** Return the keys of a path as the address has it. */
function pathOfText(text) {
  return text ? text.split(".").map(Number) : [];
}

/** Return a path as the address has it; "" for the whole chart. */
function pathText(box) {
  return box?.parent ? box.chart.pathOf(box).join(".") : "";
}

/** Return the boxes that a search found, the widest first, of those wide enough to be seen. */
function matchedBoxes(chart, matches) {
  const todo = [chart.down, ...(chart.up ? chart.up.children : [])];
  const found = [];
  const least = chart.whole * LEAST_MATCH_SHARE;
  for (let at = 0; at < todo.length && found.length < MOST_MATCHES; at += 1) {
    const box = todo[at];
    if (isMatch(box, matches)) {
      found.push(box);
    }
    for (const child of box.children) {
      if (child.weight < least) {
        break;
      }
      todo.push(child);
    }
  }
  return found.sort((a, b) => b.weight - a.weight);
}

/**
 * Return the key of the box under which a graph that is grouped so has a row's task, or thread; -1
 * if it is not known.
 */
function rootKeyOf(profile, grouping, { group, thread }) {
  if (grouping === "task" && group !== undefined) {
    return profile.groupKey(group);
  }
  return grouping === "thread" && thread !== undefined ? profile.threadKey(thread) : -1;
}

/** Return what to do about a chart that shows nothing; "" for one that shows something. */
function whyNothing({ tree, clock, down, whole, fn }) {
  const { samples, sampleCount } = tree.profile;
  if (down.weight > 0) {
    return "";
  }
  if (!sampleCount && tree.profile.trace) {
    return "No sample was taken in this trace: it was too short, or of another process.";
  }
  const { exact } = tree.profile.payload;
  if (!sampleCount) {
    return exact ? "No call was counted."
      : "Nothing was sampled: run the program longer, or sample faster (--rate).";
  }
  if (whole > 0 && fn >= 0) {
    // A name may hold marks that reorder what is beside it.
    const name = `\u2068${tree.profile.functionLabel(fn)}\u2069`;
    return `${name} has no ${CLOCK_WORDS[clock]} here: another clock or switch may show it.`;
  }
  if (clock !== "wall") {
    return clock === "cpu" ? `No ${CLOCK_WORDS.cpu} was seen.` : "Nothing was awaited.";
  }
  return !tree.options.idle && samples.idle.some((ns) => ns > 0)
    ? "All the time seen was idle: the switch “idle” shows it."
    : exact ? "The calls took no time that could be measured."
      : "The samples hold no time: run the program longer, or sample faster (--rate).";
}

/** Return the function to look at before any was chosen: the heaviest one of the user's; or -1. */
function firstFunction(profile, clock) {
  const rows = functionRows(profile, null).filter(hasTimes);
  const own = rows.filter((row) => !isTheirs(row));
  const heaviest = (best, row) =>
    (best && timeOf(best, clock, "Total") >= timeOf(row, clock, "Total") ? best : row);
  return (own.length ? own : rows).reduce(heaviest, null)?.fn ?? -1;
}
