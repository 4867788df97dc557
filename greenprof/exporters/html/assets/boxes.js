"use strict";

// Boxes of the three charts, made as they are looked at: a profile may have more of them than a
// page could hold.
//
// A box is a set of nodes of the view tree that lie at the same place of the chart. In a chart that
// grows away from callers these are the function's own nodes (`DownBox`); in one that grows towards
// callers it is pairs of a node whose time it is and the node above it that was reached (`UpBox`).

class Box {
  constructor(chart, parent, key, weight, nodes) {
    this.chart = chart;
    this.parent = parent;
    this.key = key;
    this.depth = parent === null ? 0 : parent.depth + 1;
    /** Nanoseconds under the chart's clock. */
    this.weight = weight;
    /** Nanoseconds from the left edge of the chart. */
    this.start = 0;
    /** {nodes, leaves, begin, end}: the box's part of arrays that it shares with its siblings. */
    this.nodes = nodes;
    this.made = null;
    this.known = null;
  }

  /** The box that the chart, or its half of callers, starts from. */
  get root() {
    let root = this;
    while (root.parent !== null) {
      root = root.parent;
    }
    return root;
  }

  /** What the box stands for, see ReportProfile.describe. */
  get info() {
    return this.chart.tree.profile.describe(this.key);
  }

  /** Boxes in this one, the heaviest first and leftmost; made on first use. */
  get children() {
    if (this.made === null) {
      this.made = this.makeChildren();
      this.made.sort((one, other) => other.weight - one.weight || one.key - other.key);
      let start = this.start;
      for (const child of this.made) {
        child.start = start;
        start += child.weight;
      }
    }
    return this.made;
  }

  /**
   * All figures of the box, in nanoseconds whatever the clock:
   * {cpu, await, blocked, idle, wall: {self, total}, seen, tasks, groups: the five heaviest names}.
   */
  figures() {
    this.known ??= { ...this.times(), ...this.chart.tasksUnder(this) };
    return this.known;
  }

  /**
   * How often the exact engine saw the box's function called; of a caller in a chart that grows
   * towards callers, how often the innermost one was called by this way.
   */
  calls() {
    const { tree, fn, view } = this.chart;
    const { calls, functionOf } = tree;
    let sum = 0;
    if (view === "sandwich" && this.parent === null) {
      // In its middle stands the function, however deep it called itself.
      for (let node = 1; node < calls.length; node++) {
        sum += functionOf[node] === fn ? calls[node] : 0;
      }
      return sum;
    }
    const { nodes, leaves, begin, end } = this.nodes;
    for (let index = begin; index < end; index++) {
      sum += calls[(leaves ?? nodes)[index]];
    }
    return sum;
  }

  // Marks nodes at the box's place in an array of its, and those below them if asked for.
  markPart(marks, array, withBelow) {
    const { begin, end } = this.nodes;
    for (let index = begin; index < end; index++) {
      marks[array[index]] = 1;
    }
    const { parent } = this.chart.tree;
    for (let node = 1; withBelow && node < marks.length; node++) {
      marks[node] |= marks[parent[node]];
    }
    return marks;
  }

  // Boxes for nodes, one for each key; `leaves` stand beside the nodes, or are null.
  childBoxes(Made, nodes, leaves, weights) {
    const { tree } = this.chart;
    const groups = groupedByKey(tree, nodes, leaves);
    const weighed = groups.leaves ?? groups.nodes;
    const boxes = [];
    let begin = 0;
    for (const end of groups.ends) {
      let weight = 0;
      for (let index = begin; index < end; index++) {
        weight += weights[weighed[index]];
      }
      if (weight > 0) {
        const key = tree.key[groups.nodes[begin]];
        const part = { nodes: groups.nodes, leaves: groups.leaves, begin, end };
        boxes.push(new Made(this.chart, this, key, weight, part));
      }
      begin = end;
    }
    return boxes;
  }
}

class DownBox extends Box {
  makeChildren() {
    const { first, next } = this.chart.tree.lists;
    const found = [];
    const { nodes, begin, end } = this.nodes;
    for (let index = begin; index < end; index++) {
      for (let child = first[nodes[index]]; child >= 0; child = next[child]) {
        found.push(child);
      }
    }
    return this.childBoxes(DownBox, found, null, this.chart.weights);
  }

  times(tree = this.chart.tree) {
    const sums = new BoxSums(tree);
    sums.addMarked(this.chart.marksOf(this));
    const { nodes, begin, end } = this.nodes;
    for (let index = begin; index < end; index++) {
      sums.addSelf(nodes[index]);
    }
    return sums.figures();
  }

  /** Marks the view nodes whose samples are the box's; those below them are, too. */
  mark(marks) {
    return this.markPart(marks, this.nodes.nodes, true);
  }
}

class UpBox extends Box {
  makeChildren() {
    const { tree } = this.chart;
    const { nodes, leaves, begin, end } = this.nodes;
    const above = [];
    const below = [];
    for (let index = begin; index < end; index++) {
      const caller = tree.parent[nodes[index]];
      // The root stands for no caller; time that gets there is the box's own.
      if (caller > 0) {
        above.push(caller);
        below.push(leaves[index]);
      }
    }
    return this.childBoxes(UpBox, above, below, this.chart.upWeights);
  }

  times(tree = this.chart.tree) {
    const { chart } = this;
    const sums = new BoxSums(tree);
    const { nodes, leaves, begin, end } = this.nodes;
    const own = chart.view === "bottom";
    sums.addMarked(chart.marksOf(this));
    for (let index = begin; index < end; index++) {
      const [node, leaf] = [nodes[index], leaves[index]];
      // A function's waiting is its own, though it has a box.
      const waits = tree.profile.isStateKey(tree.key[leaf]) && node === tree.parent[leaf];
      if (own && (node === leaf || waits)) {
        sums.add(sums.self, leaf);
      } else if (!own && node === leaf) {
        sums.addSelf(node);
      }
    }
    return sums.figures();
  }

  mark(marks) {
    return this.markPart(marks, this.nodes.leaves, this.chart.view !== "bottom");
  }
}

/** The box that a bottom-up chart starts from: all time, its children the innermost levels. */
class BottomBox extends DownBox {
  makeChildren() {
    const { tree, clock } = this.chart;
    const weights = tree.ownWeights(clock);
    const { seen } = tree;
    const others = tree.other?.ownWeights(clock) ?? weights;
    const found = [];
    for (let node = 1; node < tree.size; node++) {
      if (weights[node] > 0 || seen[node] > 0 || others[node] > 0) {
        found.push(node);
      }
    }
    return this.childBoxes(UpBox, found, found, weights);
  }
}

/** Sorts nodes by key: {nodes, leaves, ends: where each key's part of the arrays ends}. */
function groupedByKey(tree, nodes, leaves) {
  const count = nodes.length;
  const { key } = tree;
  // Counts by key, 0 between the calls; an array for all keys is a tenth of a Map's time.
  tree.slots ??= new Int32Array(tree.profile.keyCount);
  const { slots } = tree;
  const keys = [];
  for (let index = 0; index < count; index++) {
    const its = key[nodes[index]];
    if (slots[its]++ === 0) {
      keys.push(its);
    }
  }
  const ends = new Int32Array(keys.length);
  let start = 0;
  for (let index = 0; index < keys.length; index++) {
    const size = slots[keys[index]];
    slots[keys[index]] = start;
    start += size;
    ends[index] = start;
  }
  const sorted = new Int32Array(count);
  const beside = leaves === null ? null : new Int32Array(count);
  for (let index = 0; index < count; index++) {
    const place = slots[key[nodes[index]]]++;
    sorted[place] = nodes[index];
    if (beside !== null) {
      beside[place] = leaves[index];
    }
  }
  for (const its of keys) {
    slots[its] = 0;
  }
  return { nodes: sorted, leaves: beside, ends };
}

/** Adds up what a box shows in its figures. */
class BoxSums {
  constructor(tree) {
    this.tree = tree;
    const nothing = () => Object.fromEntries(TIMES.map((name) => [name, 0]));
    this.self = nothing();
    this.total = nothing();
  }

  add(sums, node) {
    const { tree } = this;
    sums[TIMES[tree.kindOf(node)]] += tree.amounts[node];
    sums.seen += tree.seen[node];
  }

  /** Adds the marked nodes to the total. */
  addMarked(marks) {
    const { tree } = this;
    const { amounts, seen, size } = tree;
    const sums = new Float64Array(TIMES.length);
    for (let node = 0; node < size; node++) {
      if (marks[node] === 1) {
        sums[tree.kindOf(node)] += amounts[node];
        sums[TIMES.length - 1] += seen[node];
      }
    }
    TIMES.forEach((name, column) => {
      this.total[name] += sums[column];
    });
  }

  /** Adds a node's own time, that of its boxes of waiting included. */
  addSelf(node) {
    const { key, profile, lists } = this.tree;
    this.add(this.self, node);
    for (let child = lists.first[node]; child >= 0; child = lists.next[child]) {
      if (profile.isStateKey(key[child])) {
        this.add(this.self, child);
      }
    }
  }

  figures() {
    const { self, total } = this;
    const pair = (...names) => ({
      self: names.reduce((sum, name) => sum + self[name], 0),
      total: names.reduce((sum, name) => sum + total[name], 0),
    });
    return {
      cpu: pair("cpu"),
      await: pair("awaiting", "ready"),
      blocked: pair("blocked"),
      idle: pair("idle"),
      wall: pair(...CLOCK_TIMES.wall),
      seen: total.seen,
    };
  }
}
