"use strict";

/** The tables of a page of two profiles: each figure before, after, and how it changed. */

/** Columns of a change {before, after, by, chance} that `of(row)` returns. */
function changeColumns(id, band, of, { hint, judged = true }) {
  const tone = (row) => {
    const change = of(row);
    return change.chance === "noise" || change.by === 0 ? "chance"
      : change.by > 0 ? "more" : "less";
  };
  const time = (side, label) => ({
    id: `${id}${label}`, label, band, type: "time", hint, value: (row) => of(row)[side],
  });
  const chance = {
    id: `${id}Chance`, label: "chance", band, type: "text",
    hint: "noise: sampling alone makes such a change, below 2 standard errors; maybe: below 3",
    value: (row) => of(row).chance,
  };
  return [
    time("before", "before"),
    time("after", "after"),
    {
      id: `${id}By`, label: "change", band, type: "time", hint: "After less before", tone,
      value: (row) => of(row).by, text: (row) => formatChange(of(row).by),
    },
    {
      id: `${id}Ratio`, label: "%", band, type: "count", hint: "In proportion to before", tone,
      value: (row) => ratioOf(of(row)), text: (row) => formatRatio(of(row)),
    },
    ...(judged ? [chance] : []),
  ];
}

/** Columns of a number before and after. */
function countColumns(band, of, hint) {
  return ["before", "after"].map((side) => ({
    id: `${band}${side}`, label: side, band, type: "count", hint, value: (row) => of(row)[side],
  }));
}

const CHANGE_COLUMNS = {
  functions: (tables) => [
    ...TABLE_COLUMNS.functions(tables).slice(0, 2),
    ...(tables.exact ? countColumns("calls", (row) => row.calls, "Calls, exactly") : []),
    ...changeColumns("total", "total", (row) => row.total, {
      hint: "In itself and in all that it called, by the clock chosen above",
      judged: !tables.exact,
    }),
    ...changeColumns("self", "self", (row) => row.own, {
      hint: "In itself, by the clock chosen above", judged: false,
    }).slice(0, 3),
  ],
  counted: (tables) => [
    ...lineColumns(tables, "await site"),
    awaitedColumn(),
    ...countColumns("awaits", (row) => row.counts, "How often, exactly"),
    ...["before", "after"].map((side) => ({
      id: `mean${side}`, label: side, band: "mean", type: "time", hint: "Of one await",
      value: (row) => row.means[side],
    })),
    ...["before", "after"].map((side) => ({
      id: `p95${side}`, label: side, band: "p95", type: "time",
      hint: "Of a hundred awaits, five took longer", value: (row) => row.p95s[side],
    })),
    ...changeColumns("total", "time awaiting", (row) => row.time, {
      hint: "All of them together, by the wall clock", judged: false,
    }),
  ],
  awaits: (tables) => [
    ...TABLE_COLUMNS.awaits(tables).slice(0, 3),
    ...changeColumns("wait", "awaiting and ready", (row) => row.time, {
      hint: "Wall clock of the tasks",
    }),
  ],
  tasks: (tables) => [
    TABLE_COLUMNS.tasks(tables)[0],
    ...countColumns("tasks", (row) => row.counts, "Distinct tasks seen"),
    ...changeColumns("time", "time", (row) => row.time, {
      hint: "By the clock chosen above; idle time only where that is shown", judged: !tables.exact,
    }),
  ],
};

const CHANGE_ORDERS = {
  functions: (clock) => ({
    note: `your code first, by how much its total ${CLOCK_WORDS[clock]} changed`,
    keys: (row) => [
      isTheirs(row),
      isTheirs(row) ? -Math.abs(row.own.by) : 0,
      -Math.abs(row.total.by),
      // Of callers that changed by what they call, that comes first.
      -Math.abs(row.own.by),
      row.place,
    ],
  }),
  counted: () => ({
    note: "your code first, by how much changed",
    keys: (row) => [isTheirs(row), -Math.abs(row.time.by)],
  }),
  awaits: () => ({
    note: "your code first, by how much changed",
    keys: (row) => [isTheirs(row), -Math.abs(row.time.by)],
  }),
  tasks: (clock) => ({
    note: `by how much the ${CLOCK_WORDS[clock]} changed`,
    keys: (row) => [-Math.abs(row.time.by)],
  }),
};

class ChangeTables extends ReportTables {
  get exact() {
    return this.profile.payload.exact;
  }

  columnsOf(tab) {
    return CHANGE_COLUMNS[tab](this);
  }

  orderOf(tab, clock) {
    return CHANGE_ORDERS[tab](clock);
  }

  rowsKey(state) {
    return `${super.rowsKey(state)} ${state.clock} ${state.side}`;
  }

  makeRows(tab, fn, shown) {
    const { profile, scope } = this;
    const { clock } = this.state;
    const wanted = (row) => !shown.mine || row.origin === "app";
    const has = ({ before, after }) => before + after > 0;
    if (tab === "counted") {
      return countedRows(profile, tab).filter(wanted).map((row) => ({
        ...row,
        counts: { before: row.countBefore, after: row.count },
        means: { before: row.meanBefore, after: row.mean },
        p95s: { before: row.p95Before, after: row.p95 },
        time: changeOf({ before: row.totalBefore, after: row.total }, {}, true),
      }));
    }
    if (tab === "tasks") {
      const time = (row) => (clock === "cpu" ? row.cpu
        : clock === "await" ? row.awaiting + row.ready : this.wallOf(row));
      return this.bothSides(() => groupRows(profile, scope), "group").map((pair) => ({
        ...pair.row, counts: pair.amounts((row) => row.tasks), time: pair.change(time),
      })).filter((row) => has(row.time));
    }
    if (tab === "awaits") {
      const time = (row) => row.awaiting + row.ready;
      return this.bothSides(() => siteRows(profile, scope), "site")
        .map((pair) => ({ ...pair.row, time: pair.change(time) }))
        .filter((row) => wanted(row) && has(row.time));
    }
    return this.bothSides(() => functionRows(profile, scope, shown), "fn").map((pair) => ({
      ...pair.row,
      calls: pair.amounts((row) => row.calls),
      total: pair.change((row) => timeOf(row, clock, "Total")),
      own: pair.change((row) => timeOf(row, clock, "Self")),
    })).filter((row) => wanted(row) && has(row.total)
      && (!row.bridge || (shown.bridges && !shown.mine)));
  }

  /** Rows that have the same `id` on both sides: {row, amounts(of), change(of)}. */
  bothSides(made, id) {
    const { sides } = this.profile;
    const numbered = (rows) => new Map(rows.map((row) => [row[id], row]));
    const maps = ({ before, after }) => ({ before: numbered(before), after: numbered(after) });
    const times = maps(sides.each(made));
    const looks = maps(sides.eachOfLooks(made));
    const both = ({ before, after }, key, of) => {
      const amount = (row) => (row ? of(row) : 0);
      return { before: amount(before.get(key)), after: amount(after.get(key)) };
    };
    return [...new Set([...times.after.keys(), ...times.before.keys()])].map((key) => ({
      row: times.after.get(key) ?? times.before.get(key),
      amounts: (of) => both(times, key, of),
      change: (of) => changeOf(both(times, key, of), both(looks, key, of), this.exact),
    }));
  }
}

/** Return the tables for a page, of one profile or of two. */
function tablesFor(host, profile, callbacks) {
  const Made = profile.sides ? ChangeTables : ReportTables;
  return new Made(host, profile, callbacks);
}
