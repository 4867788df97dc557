"use strict";

// The profile as the exporter wrote it, in typed arrays: a profile of 200,000 stack nodes has to be
// walked within a frame or two of animation.

const FRAME_PYTHON = 0;
const FRAME_BOUNDARY = 1;
const FRAME_AWAITED = 2;
const ORIGIN_APP = 0;
const STATE_AWAITING = 1;
const STATE_READY = 2;
const STATE_BLOCKED = 3;
const STATE_IDLE = 4;
const STATE_LABELS = ["[running]", "[await]", "[ready]", "[blocked]", "[idle]"];
const STATE_CATEGORIES = ["root", "await", "ready", "blocked", "idle"];
// What of a sample is meant: its CPU time, or its waiting and that it was seen at all. The two may
// lie in different boxes.
const PART_CPU = 1;
const PART_WAIT = 2;
const PART_ALL = PART_CPU | PART_WAIT;
// Keys are f * 6 + kind * 2 + crosses.
const KEYS_PER_FUNCTION = 6;

class ReportProfile {
  /** @param payload what greenprof/exporters/html/payload.py wrote. */
  constructor(payload) {
    this.payload = payload;
    this.functions = payload.functions;
    this.functionCount = payload.functions.name.length;
    this.frameFunction = new Int32Array(payload.frames.function);
    this.frameLine = new Int32Array(payload.frames.line);
    this.frameKind = new Uint8Array(payload.frames.kind);
    this.frameCrosses = new Uint8Array(payload.frames.crosses);
    this.nodeParent = new Int32Array(payload.nodes.parent);
    this.nodeFrame = new Int32Array(payload.nodes.frame);
    this.nodeCount = this.nodeParent.length;
    this.groups = payload.groups;
    this.threads = payload.threads;
    this.sites = payload.sites;
    this.states = payload.states;
    this.traces = new Traces(payload);
    /** The trace whose samples are those of the profile just now; "" for all. */
    this.trace = "";
    // Keys of states, the root, groups and threads come after those of functions. None is negative,
    // so that a path of keys is plain digits in the page's address.
    this.functionKeys = this.functionCount * KEYS_PER_FUNCTION;
    this.rootKey = this.functionKeys + this.states.length;
    this.keyCount = this.rootKey + 1 + this.groups.name.length + this.threads.length;
    this.descriptions = new Array(this.keyCount);
    this.searched = new Array(this.functionCount);
    this.allSamples = ReportProfile.#samples(payload.samples);
    this.#take(this.allSamples);
    /** Of a page of two profiles: which of them is drawn; else null. */
    this.sides = payload.before ? new Sides(this) : null;
  }

  /** Go on with the samples of a trace only, or of all for "". */
  choose(trace) {
    if (trace !== this.trace) {
      this.trace = trace;
      const columns = trace && this.traces.columnsOf(trace);
      this.#take(trace ? ReportProfile.#samples(columns) : this.allSamples);
    }
  }

  /** How many tasks of a group were seen; 0 in a trace, whose tasks nobody counted. */
  tasksOf(group) {
    return this.trace ? 0 : this.groups.tasks[group];
  }

  /** Go on with the samples, and the numbers of tasks, of one of two profiles. */
  takeSide(samples, tasks) {
    this.groups = { ...this.groups, tasks };
    this.#take(samples);
  }

  #take(samples) {
    this.samples = samples;
    this.sampleCount = samples.node.length;
    this.lastTotals = undefined;
    // Those of task groups say how many tasks there were.
    this.descriptions.fill(undefined, this.rootKey + 1);
  }

  functionKey(fn, kind, crosses) {
    return fn * KEYS_PER_FUNCTION + kind * 2 + (crosses ? 1 : 0);
  }

  stateKey(state) {
    return this.functionKeys + state;
  }

  groupKey(group) {
    return this.rootKey + 1 + group;
  }

  threadKey(thread) {
    return this.rootKey + 1 + this.groups.name.length + thread;
  }

  isStateKey(key) {
    return key >= this.functionKeys && key < this.rootKey;
  }

  /** The function that a key stands for; -1 if it is none. */
  functionOf(key) {
    return key < this.functionKeys ? Math.floor(key / KEYS_PER_FUNCTION) : -1;
  }

  /** "module.name", or the name alone where the module is not known. */
  functionLabel(fn) {
    const { name, module } = this.functions;
    return module[fn] ? `${module[fn]}.${name[fn]}` : name[fn];
  }

  /** Where a function starts, in short: "orders/api.py:55"; "" for what has no file. */
  functionPlace(fn) {
    return this.#atLine(this.payload.places[this.functions.path[fn]], this.functions.line[fn]);
  }

  /** Where a function starts, in full: "/srv/orders/api.py:55". */
  functionPath(fn) {
    return this.#atLine(this.payload.paths[this.functions.path[fn]], this.functions.line[fn]);
  }

  /** Whether a function is part of the profiled program itself. */
  isApp(fn) {
    const { origin, path } = this.functions;
    return origin[fn] === ORIGIN_APP && Boolean(this.payload.paths[path[fn]]);
  }

  /** A mask of the functions with a text in their qualified name or place, whatever its case. */
  functionsWith(text) {
    const mask = new Uint8Array(this.functionCount);
    const wanted = text.toLowerCase();
    for (let fn = 0; fn < mask.length && wanted !== ""; fn++) {
      this.searched[fn] ??= `${this.functionLabel(fn)}\n${this.functionPlace(fn)}`.toLowerCase();
      mask[fn] = this.searched[fn].includes(wanted) ? 1 : 0;
    }
    return mask;
  }

  /** For each function, whether it is part of a bridge, as its first frame says. */
  get bridgeFunctions() {
    const bridges = new Uint8Array(this.functionCount);
    for (let frame = this.frameFunction.length - 1; frame >= 0; frame--) {
      bridges[this.frameFunction[frame]] = this.frameKind[frame] === FRAME_BOUNDARY ? 1 : 0;
    }
    Object.defineProperty(this, "bridgeFunctions", { value: bridges });
    return bridges;
  }

  /** What a box stands for: {type, label, place, category, crosses, fn, bridge}. */
  describe(key) {
    this.descriptions[key] ??= this.#description(key);
    return this.descriptions[key];
  }

  #description(key) {
    const plain = { place: "", crosses: false, fn: -1, bridge: "" };
    if (key < this.functionKeys) {
      return this.#functionDescription(key);
    }
    if (key < this.rootKey) {
      const state = key - this.functionKeys;
      const [label, category] = [STATE_LABELS[state], STATE_CATEGORIES[state]];
      return { ...plain, type: "state", label, category };
    }
    if (key === this.rootKey) {
      return { ...plain, type: "root", label: "all", category: "root" };
    }
    const group = key - this.rootKey - 1;
    if (group < this.groups.name.length) {
      const kind = this.groups.kind[group];
      const label = this.groups.name[group] + (kind === "asyncio" ? "" : ` (${kind})`);
      const place = this.trace ? "" : plural(this.tasksOf(group), "task");
      return { ...plain, type: "task", label, place, category: "task" };
    }
    const label = this.threads[group - this.groups.name.length];
    return { ...plain, type: "thread", label, category: "task" };
  }

  #functionDescription(key) {
    const fn = this.functionOf(key);
    const kind = (key % KEYS_PER_FUNCTION) >> 1;
    const label = this.functions.name[fn];
    let category = this.isApp(fn) ? "yours" : "library";
    if (kind === FRAME_BOUNDARY) {
      category = "bridge";
    } else if (kind === FRAME_AWAITED) {
      category = this.isApp(fn) ? "awaited" : "awaited-library";
    }
    return {
      type: "function",
      label,
      place: this.functionPlace(fn),
      category,
      crosses: key % 2 === 1,
      fn,
      bridge: kind === FRAME_BOUNDARY ? `greenlet boundary: ${label}` : "",
    };
  }

  #atLine(path, line) {
    return path && line ? `${path}:${line}` : path || "";
  }

  // Divides each sample's time: CPU time, and the rest by what the task was doing.
  static #samples(columns) {
    const count = columns.node.length;
    const samples = { wall: new Float64Array(columns.wall), cpu: new Float64Array(columns.cpu) };
    for (const name of ["group", "thread", "node", "state", "count", "site"]) {
      samples[name] = new Int32Array(columns[name]);
    }
    const waits = ["awaiting", "ready", "blocked", "idle"];
    for (const name of waits) {
      samples[name] = new Float64Array(count);
    }
    /** The waiting of each sample by its state. On-CPU samples have none: what is not CPU time was
     *  another thread's turn. */
    samples.waits = [null, ...waits.map((name) => samples[name])];
    /** Whether there is any of it, in whichever of two profiles. */
    samples.hasCpu = Uint8Array.from(columns.cpu, (ns) => (ns > 0 ? 1 : 0));
    samples.hasWait = new Uint8Array(count);
    for (let sample = 0; sample < count; sample++) {
      const rest = samples.wall[sample] - samples.cpu[sample];
      if (rest > 0 && samples.state[sample] > 0) {
        samples.waits[samples.state[sample]][sample] = rest;
        samples.hasWait[sample] = 1;
      }
    }
    return samples;
  }
}

/** Lists of children of a tree given by parents (-1: none above): {first, next, roots}; -1 ends. */
function childLists(parent, count) {
  const first = new Int32Array(count).fill(-1);
  const next = new Int32Array(count).fill(-1);
  let roots = -1;
  // From the last to the first, for the lists to be in the order of the nodes.
  for (let node = count - 1; node >= 0; node--) {
    const above = parent[node];
    if (above < 0) {
      next[node] = roots;
      roots = node;
    } else {
      next[node] = first[above];
      first[above] = node;
    }
  }
  return { first, next, roots };
}
