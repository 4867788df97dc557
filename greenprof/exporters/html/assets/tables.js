"use strict";

/**
 * The tables below the graph: functions, await sites, tasks, and the lines of one function. Those of
 * what was counted are in counted.js.
 */

/** Columns by tab; `clock` says which switch of the toolbar a column belongs to. */
const TABLE_COLUMNS = {
  ...COUNTED_COLUMNS,
  functions: (tables) => [
    {
      id: "name", label: "function", type: "text", value: (row) => row.name,
      title: (row) => tables.profile.functionLabel(row.fn),
    },
    {
      id: "place", label: "where", type: "text", keepEnd: true, value: (row) => row.place,
      title: (row) => tables.profile.functionPath(row.fn),
    },
    ...tables.counted({
      id: "calls", label: "calls", type: "count",
      hint: "How often it was called, exactly", value: (row) => row.calls,
    }),
    ...tables.pairs(),
    ...tables.sampled({
      id: "blockedTotal", label: "total", band: "blocked", type: "time",
      hint: "Wall time inside calls that blocked the thread; a part of the wall clock's total",
      value: (row) => row.blockedTotal,
    }),
    ...tables.sampled({
      id: "seenTotal", label: "seen", band: "samples", type: "count",
      hint: "Samples that found it on the stack", value: (row) => row.seenTotal,
    }),
  ],
  awaits: (tables) => [
    {
      id: "place", label: "await site", type: "text", keepEnd: true, value: (row) => row.place,
      title: (row) => (row.fn < 0 ? row.place : tables.profile.functionPath(row.fn)),
    },
    {
      id: "name", label: "in", type: "text", value: (row) => row.name,
      title: (row) => (row.fn < 0 ? row.name : tables.profile.functionLabel(row.fn)),
    },
    { id: "awaited", label: "awaits", type: "text", value: (row) => row.awaited, keepEnd: true },
    {
      id: "seen", label: "seen", band: "samples", type: "count",
      hint: "Samples that found a task waiting here", value: (row) => row.seen,
    },
    {
      id: "awaiting", label: "awaiting", band: "wall clock of the tasks", type: "time",
      clock: "await", hint: "What it waited for was not there yet",
      value: (row) => row.awaiting, bar: (row) => row.awaiting / tables.sums.waiting,
    },
    {
      id: "ready", label: "ready", band: "wall clock of the tasks", type: "time", clock: "await",
      hint: "What it waited for was there, but its loop was busy with something else",
      value: (row) => row.ready, bar: (row) => row.ready / tables.sums.waiting,
    },
  ],
  tasks: (tables) => {
    const time = (id, label, band, hint, clock) => ({
      id, label, band, hint, clock, type: "time", value: (row) => row[id],
    });
    const band = "wall clock of the tasks";
    return [
      {
        id: "name", label: "task or thread", type: "text",
        value: (row) => tables.profile.describe(tables.profile.groupKey(row.group)).label,
      },
      {
        id: "tasks", label: "tasks", type: "count",
        hint: "Distinct tasks seen; not known of one trace", value: (row) => row.tasks,
        text: (row) => (tables.profile.trace ? "-" : formatCount(row.tasks)),
      },
      ...tables.counted({
        id: "seen", label: "calls", type: "count", hint: "Calls of functions",
        value: (row) => row.seen,
      }),
      {
        ...time("cpu", CLOCK_LABELS.cpu, CLOCK_BANDS.cpu, CLOCK_HINTS.cpu, "cpu"),
        bar: (row) => tables.onClock("cpu") && row.cpu / tables.sums.cpu,
      },
      {
        ...time("wall", "all", band, "Idle time counts only where the switch idle is on", "wall"),
        value: (row) => tables.wallOf(row),
        bar: (row) => tables.onClock("wall") && tables.wallOf(row) / tables.sums.wall,
      },
      {
        ...time("awaiting", "awaiting", band, "Suspended on something that is not there yet"),
        clock: "await",
        bar: (row) => tables.onClock("await") && row.awaiting / tables.sums.waiting,
      },
      {
        ...time("ready", "ready", band, "Could go on, but its loop is busy with something else"),
        clock: "await",
      },
      ...tables.sampled(
        time("blocked", "blocked", band, "Inside a call that holds up the thread and its loop")),
      ...tables.sampled(time("idle", "idle", band, "Nothing to do")),
    ].filter(({ id }) => !WAIT_COLUMNS.includes(id) || tables.clocks.includes("await"));
  },
  lines: (tables) => [
    {
      id: "line", label: "line", type: "count", value: (row) => row.line,
      hint: "The line that ran, called or waited", text: (row) => tables.placeOf(row.line),
    },
    {
      id: "seenSelf", label: "self", band: "seen in samples", type: "count",
      hint: "Samples of the line itself", value: (row) => row.seenSelf,
    },
    {
      id: "seenTotal", label: "total", band: "seen in samples", type: "count",
      hint: "Samples of the line and of what it called", value: (row) => row.seenTotal,
    },
    ...tables.pairs(),
  ],
};
/** Of tasks: nothing is in them where only CPU time was measured. */
const WAIT_COLUMNS = ["wall", "awaiting", "ready"];

/**
 * The order of a tab until a reader clicks on a head: by a column, or by keys of its own where
 * what a reader can change comes first, as it does in the terminal's summary.
 */
const TABLE_ORDERS = {
  ...COUNTED_ORDERS,
  functions: (clock) => ({
    note: `your code first, by total ${CLOCK_WORDS[clock]}`,
    // Most library code only passes calls on; what counts is where the time goes.
    keys: (row) => [
      isTheirs(row),
      isTheirs(row) ? -timeOf(row, clock, "Self") : 0,
      -timeOf(row, clock, "Total"),
    ],
  }),
  awaits: () => ({
    note: "your code first, by time",
    keys: (row) => [isTheirs(row), -(row.awaiting + row.ready)],
  }),
  tasks: (clock) => ({
    column: { wall: "wall", cpu: "cpu", await: "awaiting" }[clock], descending: true,
  }),
  lines: () => ({ column: "line", descending: false }),
};

const TABLE_EMPTY = {
  ...COUNTED_EMPTY,
  functions: "no function was seen",
  awaits: "nothing was awaited",
  tasks: "no task was seen",
  lines: "no line of this function was seen",
};

const NO_FUNCTION = "choose a function: a box of the graph, or a row of the functions";

/** Whether a row of functions has anything to show: one seen only idle, if that is shown. */
function hasTimes(row) {
  return row.seenTotal + timeOf(row, "wall", "Total") > 0;
}

function isTheirs(row) {
  return Number(row.origin !== "app" || Boolean(row.bridge));
}

/**
 * A row's time under a clock, in itself ("Self") or with what it called ("Total"). Rows have idle
 * time only where the switch is on.
 */
function timeOf(row, clock, part) {
  return clock === "wall"
    ? row[`cpu${part}`] + row[`await${part}`] + row[`blocked${part}`] + row[`idle${part}`]
    : row[clock + part];
}

class ReportTables {
  /**
   * @param {HTMLElement} host
   * @param {ReportProfile} profile
   * @param {{open: function(tab, row), order: function(sort text)}} callbacks
   */
  constructor(host, profile, callbacks) {
    this.host = host;
    this.profile = profile;
    this.clocks = clocksOf(profile.payload);
    this.callbacks = callbacks;
    this.tab = "";
    this.rowsOf = {};
  }

  /**
   * @param {PageState} state
   * @param {Uint8Array|null} scope samples that count; the same object means the same samples
   * @param {Box|null} box that they are of
   */
  show(state, scope, box) {
    this.box = box;
    if (scope !== this.scope || state.trace !== this.trace || !this.sums) {
      this.scope = scope;
      this.trace = state.trace;
      this.rowsOf = {};
      this.sums = this.sumUp(scope);
    }
    this.state = state;
    this.sums.wall = this.wallOf(this.sums);
    if (state.tab !== this.tab) {
      this.open(state.tab);
    }
    const dim = (row) => row.origin !== undefined && isTheirs(row) === 1;
    const chosen = (row) => state.tab === "functions" && row.fn === state.fn;
    this.chooseRows(state);
    const sort = this.sortOf(state);
    this.table.show(this.rows, { sort, filter: state.filter, dim, chosen, clock: state.clock });
  }

  open(tab) {
    this.tab = tab;
    this.table = new DataTable(this.host, {
      columns: this.columnsOf(tab),
      label: document.getElementById(`tab-${tab}`).textContent,
      empty: () => (tab === "lines" && this.state.fn < 0 ? NO_FUNCTION : TABLE_EMPTY[tab]),
      open: (row) => this.callbacks.open(tab, row),
      order: (column, descending) => this.callbacks.order(`${column}${descending ? "-" : "+"}`),
    });
    this.table.table.classList.add(`t-${tab}`);
  }

  columnsOf(tab) {
    return TABLE_COLUMNS[tab](this);
  }

  orderOf(tab, clock) {
    return TABLE_ORDERS[tab](clock);
  }

  sortOf(state) {
    const column = state.sort.slice(0, -1);
    const known = this.table.options.columns.some(({ id }) => id === column);
    return known
      ? { column, descending: state.sort.endsWith("-") } : this.orderOf(state.tab, state.clock);
  }

  /** Make the tab's rows; the same array as before where nothing changed, so sort keys stay. */
  chooseRows(state) {
    const { tab, fn, mine, bridges, idle } = state;
    const key = this.rowsKey(state);
    if (!this.rowsOf[key]) {
      this.rowsOf[key] = this.makeRows(tab, fn, { mine, bridges, idle });
    }
    this.rows = this.rowsOf[key];
  }

  /** What a tab's rows depend on. */
  rowsKey({ tab, fn, mine, bridges, idle }) {
    return `${tab} ${tab === "lines" ? fn : ""} ${mine} ${bridges} ${idle}`;
  }

  makeRows(tab, fn, shown) {
    const { profile, scope } = this;
    const { mine, bridges } = shown;
    if (tab === "lines") {
      return fn < 0 ? [] : lineRows(profile, fn, scope, shown);
    }
    if (tab === "tasks") {
      // A task may be known by what it awaited only.
      return groupRows(profile, scope).filter((row) => row.tasks + row.seen + row.cpu > 0
        || row.awaiting + row.ready + row.blocked + row.idle > 0);
    }
    const wanted = (row) => !mine || row.origin === "app";
    if (COUNTED_TABS.includes(tab)) {
      return countedRows(profile, tab).filter((row) =>
        wanted(row) && (!narrows(this.box) || isWithin(this.box, row)));
    }
    if (tab === "awaits") {
      return siteRows(profile, scope).filter(wanted);
    }
    // What the graph folds away has no box that a click could go to.
    return functionRows(profile, scope, shown).filter((row) =>
      wanted(row) && hasTimes(row) && (!row.bridge || (bridges && !mine)));
  }

  sumUp(scope) {
    const { samples, sampleCount } = this.profile;
    const sums = { cpu: 0, awaiting: 0, ready: 0, blocked: 0, idle: 0 };
    for (let sample = 0; sample < sampleCount; sample += 1) {
      const part = partOf(scope, sample);
      for (const name of Object.keys(sums)) {
        sums[name] += part & (name === "cpu" ? PART_CPU : PART_WAIT) ? samples[name][sample] : 0;
      }
    }
    sums.waiting = sums.awaiting + sums.ready;
    sums.await = sums.waiting;
    return sums;
  }

  /** The wall time of sums by state, as the graph has it. */
  wallOf({ cpu, awaiting, ready, blocked, idle }) {
    return cpu + awaiting + ready + blocked + (this.state.idle ? idle : 0);
  }

  placeOf(line) {
    const { functions, payload } = this.profile;
    const place = payload.places[functions.path[this.state.fn]];
    return place ? `${place}:${line}` : String(line);
  }

  onClock(clock) {
    return this.state.clock === clock;
  }

  /** A column that only the exact engine has something for, or none. */
  counted(column) {
    return this.profile.payload.exact ? [column] : [];
  }

  /** A column that only samples have something for, or none. */
  sampled(column) {
    return this.profile.payload.exact ? [] : [column];
  }

  /** The columns of all clocks. */
  pairs() {
    return this.clocks.flatMap((clock) => this.pair(clock));
  }

  /** The columns self and total of a clock. */
  pair(clock) {
    const what = CLOCK_WORDS[clock];
    const band = CLOCK_BANDS[clock];
    return [
      {
        id: `${clock}Self`, label: "self", band, clock, type: "time",
        hint: `${what} in itself, and in what it called that the switches hide`,
        value: (row) => timeOf(row, clock, "Self"),
      },
      {
        id: `${clock}Total`, label: "total", band, clock, type: "time",
        hint: `${what} in itself and in all that it called; recursion counts once`,
        value: (row) => timeOf(row, clock, "Total"),
        bar: (row) => this.onClock(clock) && timeOf(row, clock, "Total") / this.sums[clock],
      },
    ];
  }
}
