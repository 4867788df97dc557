"use strict";

// A chart: the boxes of one view of the tree, how to get to them, and what is found in them.

class Chart {
  /**
   * @param tree a ViewTree
   * @param clock "wall" | "cpu" | "await"
   * @param view "top" | "bottom" | "sandwich"
   * @param fn the function in the middle of a sandwich
   */
  constructor(tree, clock, view, fn = -1) {
    Object.assign(this, { tree, clock, view, fn });
    this.weights = tree.weights(clock);
    /** Weight of everything, nanoseconds. */
    this.whole = this.weights[0];
    this.up = null;
    this.upWeights = view === "bottom" ? tree.ownWeights(clock) : this.weights;
    if (view === "sandwich") {
      this.#sandwich();
    } else {
      const root = { nodes: [0], leaves: null, begin: 0, end: 1 };
      const Made = view === "bottom" ? BottomBox : DownBox;
      this.down = new Made(this, null, tree.profile.rootKey, this.whole, root);
    }
  }

  /** The box that a path of keys leads to, null if there is none. */
  boxAt(path) {
    const halves = this.view === "sandwich" && path.length > 0;
    let box = halves ? [this.down, this.up][path[0]] : this.down;
    for (const key of halves ? path.slice(1) : path) {
      box = box?.children.find((child) => child.key === key);
    }
    return box ?? null;
  }

  /** The keys from below the root to a box; of a sandwich, 0 (down) or 1 (up) before them. */
  pathOf(box) {
    const path = [];
    let at = box;
    for (; at.parent !== null; at = at.parent) {
      path.push(at.key);
    }
    if (this.view === "sandwich") {
      path.push(at === this.up ? 1 : 0);
    }
    return path.reverse();
  }

  /**
   * The widest box of a function in the top-down chart, null if it has none. With `root`, the key
   * of a task or thread, the widest one below that, if it has any there.
   */
  heaviest(fn, root = -1) {
    const { tree, weights } = this;
    const { functionOf, parent, key, size } = tree;
    const rootOf = (node) => {
      let at = node;
      while (parent[at] > 0) {
        at = parent[at];
      }
      return key[at];
    };
    const widest = (wanted) => {
      let found = -1;
      for (let node = 1; node < size; node++) {
        if (functionOf[node] === fn && weights[node] > (found < 0 ? 0 : weights[found])
          && wanted(node)) {
          found = node;
        }
      }
      return found;
    };
    const below = root < 0 ? -1 : widest((node) => rootOf(node) === root);
    return this.#topBoxOf(below < 0 ? widest(() => true) : below);
  }

  /**
   * The box of an await site's function in the top-down chart below which tasks waited there
   * longest; null if there is none. Of a function that calls itself it is the level that waited.
   */
  heaviestOfSite(site) {
    const { tree, weights } = this;
    const { functionOf, parent, profile } = tree;
    const { samples, sampleCount } = profile;
    const fn = profile.sites.fn[site];
    const waited = new Map();
    for (let sample = 0; fn >= 0 && sample < sampleCount; sample++) {
      if (samples.site[sample] === site) {
        let node = tree.sampleNode[sample];
        while (node > 0 && functionOf[node] !== fn) {
          node = parent[node];
        }
        if (node > 0 && weights[node] > 0) {
          const time = samples.awaiting[sample] + samples.ready[sample];
          waited.set(node, (waited.get(node) ?? 0) + time);
        }
      }
    }
    let found = -1;
    for (const [node, time] of waited) {
      found = found < 0 || time > waited.get(found) ? node : found;
    }
    return this.#topBoxOf(found);
  }

  #topBoxOf(found) {
    const { tree } = this;
    if (found < 0) {
      return null;
    }
    const path = [];
    for (let node = found; node > 0; node = tree.parent[node]) {
      path.push(tree.key[node]);
    }
    const top = this.view === "top" ? this : new Chart(tree, this.clock, "top");
    return top.boxAt(path.reverse());
  }

  /**
   * What the tables show of a box: a mask over the samples, of PART_CPU where a sample's CPU time
   * is in the box and PART_WAIT where its waiting is, and its observations.
   */
  samplesUnder(box) {
    this.marksOf(box);
    this.marked.samples ??= this.#mask(this.marked.nodes);
    return this.marked.samples;
  }

  /** A mask over the nodes of the tree whose own time is in a box. */
  marksOf(box) {
    // The last one is kept: a box's figures and the tables come one after the other.
    if (this.marked?.box !== box) {
      this.marked = { box, nodes: box.mark(new Uint8Array(this.tree.size)), samples: null };
    }
    return this.marked.nodes;
  }

  #mask(marks) {
    const { tree } = this;
    const { sampleNode, parent, options } = tree;
    const { samples, sampleCount } = tree.profile;
    const mask = new Uint8Array(sampleCount);
    for (let sample = 0; sample < sampleCount; sample++) {
      const node = sampleNode[sample];
      if (node < 0) {
        continue;
      }
      // A sample that waited may have used the CPU as well: that part is the frame's own.
      const frameNode = tree.kindOf(node) > 0 ? parent[node] : node;
      if (samples.hasCpu[sample] === 1 && marks[frameNode] === 1) {
        mask[sample] = PART_CPU;
      }
      // Of what is idle and left out, there is only the CPU time.
      if (marks[node] === 1 && (options.idle || samples.state[sample] !== STATE_IDLE)) {
        mask[sample] |= PART_WAIT;
      }
    }
    return mask;
  }

  /** The distinct tasks of a box: {tasks, groups: the five heaviest names}. */
  tasksUnder(box) {
    const { profile } = this.tree;
    const { samples, groups } = profile;
    const mask = this.samplesUnder(box);
    const weights = new Float64Array(groups.name.length).fill(-1);
    const times = CLOCK_TIMES[this.clock].map((name) =>
      ({ part: name === "cpu" ? PART_CPU : PART_WAIT, time: samples[name] }));
    for (let sample = 0; sample < mask.length; sample++) {
      if (mask[sample] > 0) {
        const group = samples.group[sample];
        weights[group] = Math.max(weights[group], 0);
        for (const { part, time } of times) {
          weights[group] += mask[sample] & part ? time[sample] : 0;
        }
      }
    }
    const found = [...weights.keys()].filter((group) => weights[group] >= 0);
    found.sort((one, other) => weights[other] - weights[one]);
    return {
      tasks: found.reduce((sum, group) => sum + profile.tasksOf(group), 0),
      groups: found.slice(0, 5).map((group) => groups.name[group]),
    };
  }

  /**
   * Looks for a text in names, qualified names and places, whatever its case:
   * {functions: Uint8Array mask, count: of those that occur in the chart's tree,
   * groups: Set of the keys of tasks and threads that have boxes and the text in their names,
   * weightNs: time in all of these, where one calls another counted once}.
   */
  search(text) {
    const { tree, weights } = this;
    const { functionOf, parent, key, profile } = tree;
    const functions = profile.functionsWith(text);
    const groups = new Set();
    const wanted = text.toLowerCase();
    const seen = new Uint8Array(functions.length);
    const size = text === "" ? 0 : tree.size;
    const inside = new Uint8Array(size);
    let [count, weightNs] = [0, 0];
    for (let node = 1; node < size; node++) {
      const fn = functionOf[node];
      inside[node] = inside[parent[node]];
      if (fn >= 0 && functions[fn] === 1) {
        count += 1 - seen[fn];
        seen[fn] = 1;
      } else if (
        key[node] > profile.rootKey
        && profile.describe(key[node]).label.toLowerCase().includes(wanted)
      ) {
        groups.add(key[node]);
      } else {
        continue;
      }
      if (inside[node] === 0) {
        inside[node] = 1;
        weightNs += weights[node];
      }
    }
    return { functions, groups, count, weightNs };
  }

  #sandwich() {
    const { tree, fn } = this;
    const nodes = this.#outermost();
    let [weight, heaviest] = [0, -1];
    for (const node of nodes) {
      weight += this.weights[node];
      heaviest = heaviest < 0 || this.weights[node] > this.weights[heaviest] ? node : heaviest;
    }
    const known = fn >= 0 && fn < tree.profile.functionCount;
    const hidden = known ? tree.profile.functionKey(fn, FRAME_PYTHON, 0) : tree.profile.rootKey;
    // The function may occur as sync and as awaited code: the box shows what it mostly is.
    const key = heaviest < 0 ? hidden : tree.key[heaviest];
    const part = { nodes, leaves: nodes, begin: 0, end: nodes.length };
    this.down = new DownBox(this, null, key, weight, part);
    this.up = new UpBox(this, null, key, weight, part);
  }

  // The nodes of the chart's function that are not below another one: each time counts once.
  #outermost() {
    const { tree, fn } = this;
    const { functionOf, parent } = tree;
    const found = [];
    const inside = new Uint8Array(tree.size);
    for (let node = 1; fn >= 0 && node < tree.size; node++) {
      inside[node] = inside[parent[node]];
      if (functionOf[node] === fn && inside[node] === 0) {
        inside[node] = 1;
        found.push(node);
      }
    }
    return found;
  }
}
