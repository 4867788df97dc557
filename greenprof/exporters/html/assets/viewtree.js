"use strict";

// The profile's tree of stacks as the page's switches want it: bridges folded or not, one's own
// code only or not, whole or by task or thread. All of it is made anew at each switch, within a few
// frames of animation, hence arrays of numbers and no objects.

// As the states of a profile, with CPU time in the place of the first one.
const TIMES = ["cpu", "awaiting", "ready", "blocked", "idle", "seen"];
const CLOCK_TIMES = {
  wall: ["cpu", "awaiting", "ready", "blocked", "idle"],
  cpu: ["cpu"],
  await: ["awaiting", "ready"],
};

/** A place in a path of keys that anything may stand in. */
const ANY_KEY = -1;

/** A mask of the frames that the switches {bridges, mine} hide; their time goes to those above. */
function hiddenFrames(profile, { bridges, mine }) {
  return Uint8Array.from(profile.frameFunction, (fn, frame) => {
    const bridge = profile.frameKind[frame] === FRAME_BOUNDARY;
    return (mine ? bridge || !profile.isApp(fn) : bridge && !bridges) ? 1 : 0;
  });
}

/** A growing tree in which a node is found by its parent and its key. */
class NodeTable {
  constructor(capacity, rootKey) {
    let size = 1024;
    while (size < capacity) {
      size *= 2;
    }
    this.count = 1;
    this.parent = new Int32Array(size);
    this.key = new Int32Array(size);
    this.parent[0] = -1;
    this.key[0] = rootKey;
    // Open addressing; 0 is an empty place, as the root is nobody's child.
    this.places = new Int32Array(2 * size);
  }

  child(parent, key) {
    const mask = this.places.length - 1;
    let place = NodeTable.#hash(parent, key) & mask;
    for (let node = this.places[place]; node !== 0; node = this.places[place]) {
      if (this.parent[node] === parent && this.key[node] === key) {
        return node;
      }
      place = (place + 1) & mask;
    }
    if (this.count === this.parent.length) {
      this.#grow();
      return this.child(parent, key);
    }
    const node = this.count++;
    this.places[place] = node;
    this.parent[node] = parent;
    this.key[node] = key;
    return node;
  }

  static #hash(parent, key) {
    const mixed = Math.imul(parent, 0x9e3779b1) ^ Math.imul(key, 0x85ebca6b);
    return mixed ^ (mixed >>> 15);
  }

  #grow() {
    const size = 2 * this.parent.length;
    const grown = (old) => {
      const array = new Int32Array(size);
      array.set(old);
      return array;
    };
    this.parent = grown(this.parent);
    this.key = grown(this.key);
    this.places = new Int32Array(2 * size);
    const mask = this.places.length - 1;
    for (let node = 1; node < this.count; node++) {
      let place = NodeTable.#hash(this.parent[node], this.key[node]) & mask;
      while (this.places[place] !== 0) {
        place = (place + 1) & mask;
      }
      this.places[place] = node;
    }
  }
}

class ViewTree {
  /** @param options {group: "all"|"task"|"thread", bridges, mine, idle: bool} */
  constructor(profile, options) {
    this.profile = profile;
    const { group, bridges, mine, idle } = options;
    this.options = { group, bridges, mine, idle };
    this.cache = new Map();
    const table = new NodeTable(profile.nodeCount, profile.rootKey);
    const frameNodes = this.#placed(table);
    this.sampleNode = new Int32Array(profile.sampleCount).fill(-1);
    const left = this.#addStateBoxes(table, frameNodes);
    // What a node's own time is, its key says: waiting of a box of waiting, CPU time of all others.
    this.amounts = new Float64Array(this.size);
    this.seen = new Float64Array(this.size);
    /** How often each node's function was called there, as the exact engine counted. */
    this.calls = new Float64Array(profile.payload.exact ? this.size : 0);
    this.#addOwn(frameNodes, left);
    /** Own and total figures of the nodes by name: own.cpu, total.seen; made on first use. */
    this.own = ViewTree.#columns((name) => this.#ownColumn(name));
    this.total = ViewTree.#columns((name) => ViewTree.#withChildren(this.own[name], this.parent));
  }

  /** Total time of each node under a clock, nanoseconds. */
  weights(clock) {
    const own = () => this.ownWeights(clock);
    return this.#cached(`total ${clock}`, () => ViewTree.#withChildren(own(), this.parent));
  }

  /** Time of each node itself under a clock, nanoseconds. */
  ownWeights(clock) {
    if (clock === "wall") {
      return this.amounts;
    }
    return this.#cached(`own ${clock}`, () => this.#chosen(CLOCK_TIMES[clock]));
  }

  /** What a node's own time is: a place in TIMES. */
  kindOf(node) {
    const { key, profile } = this;
    return profile.isStateKey(key[node]) ? key[node] - profile.functionKeys : 0;
  }

  /**
   * The keys of a stack from below the root down, as those of its boxes in the top-down chart;
   * ANY_KEY for a thread that is not known.
   */
  keysOf(group, thread, node) {
    const { profile, options, visibleKeys } = this;
    const keys = [];
    for (let at = node; at >= 0; at = profile.nodeParent[at]) {
      if (visibleKeys[at] >= 0) {
        keys.push(visibleKeys[at]);
      }
    }
    if (options.group === "task") {
      keys.push(profile.groupKey(group));
    } else if (options.group === "thread") {
      keys.push(thread === undefined ? ANY_KEY : profile.threadKey(thread));
    }
    return keys.reverse();
  }

  /** The key of each stack node, -1 for one that is hidden. */
  get visibleKeys() {
    return this.#cached("keys", () => this.#visibleKeys());
  }

  /** Children of the nodes: {first, next}, -1 ends a list. */
  get lists() {
    return this.#cached("lists", () => childLists(this.parent, this.size));
  }

  /** The function of each node, -1 for what is none. */
  get functionOf() {
    return this.#cached("functions", () => {
      const { key, size, profile } = this;
      const functions = new Int32Array(size);
      for (let node = 0; node < size; node++) {
        functions[node] = profile.functionOf(key[node]);
      }
      return functions;
    });
  }

  #cached(name, made) {
    if (!this.cache.has(name)) {
      this.cache.set(name, made());
    }
    return this.cache.get(name);
  }

  #ownColumn(name) {
    return name === "seen" ? this.seen : this.#chosen([name]);
  }

  // The nodes' own time, where it is of one of some kinds.
  #chosen(names) {
    const { size, amounts } = this;
    const wanted = Uint8Array.from(TIMES, (name) => (names.includes(name) ? 1 : 0));
    const chosen = new Float64Array(size);
    for (let node = 0; node < size; node++) {
      chosen[node] = amounts[node] * wanted[this.kindOf(node)];
    }
    return chosen;
  }

  static #columns(made) {
    const columns = {};
    for (const name of TIMES) {
      Object.defineProperty(columns, name, {
        configurable: true,
        enumerable: true,
        get() {
          const value = made(name);
          Object.defineProperty(columns, name, { value, enumerable: true });
          return value;
        },
      });
    }
    return columns;
  }

  // Finds or makes, for each sample, the node of its innermost visible frame.
  #placed(table) {
    const { nodeParent, nodeCount, sampleCount, samples } = this.profile;
    const keys = this.visibleKeys;
    const { index, order, roots } = this.#roots(table);
    const stacks = samples.node;
    const frameNodes = new Int32Array(sampleCount);
    // What a stack node became, and below which root: another task has nodes of its own.
    const viewNode = new Int32Array(nodeCount);
    const below = new Int32Array(nodeCount).fill(-1);
    const todo = new Int32Array(nodeCount);
    for (let place = 0; place < sampleCount; place++) {
      const sample = order[place];
      const root = roots[index[sample]];
      let node = stacks[sample];
      let depth = 0;
      while (node >= 0 && below[node] !== root) {
        todo[depth++] = node;
        node = nodeParent[node];
      }
      let view = node >= 0 ? viewNode[node] : root;
      while (depth > 0) {
        node = todo[--depth];
        if (keys[node] >= 0) {
          view = table.child(view, keys[node]);
        }
        viewNode[node] = view;
        below[node] = root;
      }
      frameNodes[sample] = view;
    }
    return frameNodes;
  }

  // A greenlet boundary above or among hidden frames marks the next visible one.
  #visibleKeys() {
    const { profile } = this;
    const { nodeParent, nodeFrame, nodeCount, frameCrosses, frameKind } = profile;
    const frameKeys = this.#frameKeys();
    const keys = new Int32Array(nodeCount);
    const marks = new Uint8Array(nodeCount);
    for (let node = 0; node < nodeCount; node++) {
      const frame = nodeFrame[node];
      const above = nodeParent[node];
      const mark = frameCrosses[frame] | (above >= 0 ? marks[above] : 0);
      if (frameKeys[frame] >= 0) {
        keys[node] = frameKeys[frame] + mark;
      } else {
        keys[node] = -1;
        marks[node] = mark | (frameKind[frame] === FRAME_BOUNDARY ? 1 : 0);
      }
    }
    return keys;
  }

  #frameKeys() {
    const { profile, options } = this;
    const { frameFunction, frameKind } = profile;
    return Int32Array.from(hiddenFrames(profile, options), (hidden, frame) =>
      hidden === 1 ? -1 : profile.functionKey(frameFunction[frame], frameKind[frame], 0),
    );
  }

  // What the samples' stacks hang under (a number for each sample, a node for each number), and the
  // order to take them in: one root after the other.
  #roots(table) {
    const { profile, options } = this;
    const { samples, sampleCount, groups, threads } = profile;
    let index = new Int32Array(sampleCount);
    let keys = [profile.rootKey];
    if (options.group === "task") {
      index = samples.group;
      keys = groups.name.map((_, group) => profile.groupKey(group));
    } else if (options.group === "thread") {
      index = samples.thread;
      keys = threads.map((_, thread) => profile.threadKey(thread));
    }
    const starts = new Int32Array(keys.length + 1);
    for (let sample = 0; sample < sampleCount; sample++) {
      starts[index[sample] + 1]++;
    }
    const roots = new Int32Array(keys.length);
    for (let number = 0; number < keys.length; number++) {
      // Of the whole, the root itself.
      if (keys[number] !== profile.rootKey && starts[number + 1] > 0) {
        roots[number] = table.child(0, keys[number]);
      }
      starts[number + 1] += starts[number];
    }
    const order = new Int32Array(sampleCount);
    for (let sample = 0; sample < sampleCount; sample++) {
      order[starts[index[sample]]++] = sample;
    }
    return { index, order, roots };
  }

  // Adds the boxes of waiting time, and with them completes the nodes. Tells of each sample whether
  // it is left out: idle, and not wanted.
  #addStateBoxes(table, frameNodes) {
    const { profile, sampleNode } = this;
    const { samples, sampleCount } = profile;
    const { idle } = this.options;
    const left = new Uint8Array(sampleCount);
    const { waits } = samples;
    const boxes = new Int32Array(table.count * waits.length);
    const parents = new Int32Array(sampleCount);
    const keys = new Int32Array(sampleCount);
    let count = 0;
    for (let sample = 0; sample < sampleCount; sample++) {
      const state = samples.state[sample];
      const node = frameNodes[sample];
      if (state === STATE_IDLE && !idle) {
        left[sample] = 1;
        // It may have used the CPU all the same.
        sampleNode[sample] = samples.hasCpu[sample] === 1 ? node : -1;
      } else if (samples.hasWait[sample] === 0) {
        sampleNode[sample] = node;
      } else {
        const place = node * waits.length + state;
        if (boxes[place] === 0) {
          parents[count] = node;
          keys[count] = profile.stateKey(state);
          boxes[place] = table.count + count;
          count++;
        }
        sampleNode[sample] = boxes[place];
      }
    }
    this.size = table.count + count;
    this.parent = new Int32Array(this.size);
    this.parent.set(table.parent.subarray(0, table.count));
    this.parent.set(parents.subarray(0, count), table.count);
    this.key = new Int32Array(this.size);
    this.key.set(table.key.subarray(0, table.count));
    this.key.set(keys.subarray(0, count), table.count);
    return left;
  }

  #addOwn(frameNodes, left) {
    const { samples, sampleCount } = this.profile;
    const { amounts, seen, calls, sampleNode, visibleKeys } = this;
    const { cpu, count, state, waits, node: stacks } = samples;
    for (let sample = 0; sample < sampleCount; sample++) {
      amounts[frameNodes[sample]] += cpu[sample];
      if (left[sample] === 0) {
        const node = sampleNode[sample];
        seen[node] += count[sample];
        // Time of a hidden function is that of the one above it; its calls are not.
        if (calls.length > 0 && state[sample] === 0 && visibleKeys[stacks[sample]] >= 0) {
          calls[node] += count[sample];
        }
        if (node !== frameNodes[sample]) {
          amounts[node] += waits[state[sample]][sample];
        }
      }
    }
  }

  static #withChildren(own, parent) {
    const total = own.slice();
    for (let node = total.length - 1; node > 0; node--) {
      total[parent[node]] += total[node];
    }
    return total;
  }
}
