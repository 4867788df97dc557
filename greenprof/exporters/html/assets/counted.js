"use strict";

/**
 * The tables of what was counted, not sampled: awaits over bridges, repeated awaits, loop blockers.
 * Their figures are of the whole recording: a zoom leaves rows out, but takes nothing from a row.
 */

const COUNTED_TABS = ["counted", "repeats", "blocks"];
/** Where the payload has a tab's rows. */
const COUNTED_TABLES = { counted: "awaits", repeats: "repeats", blocks: "blocks" };

/** Which tabs a profile has something for. */
function tabsOf({ payload }) {
  // Lines of two versions of a function have no common numbers.
  const counted = COUNTED_TABS.filter((tab) => payload[COUNTED_TABLES[tab]].fn.length > 0);
  // The exact engine sees functions, not their lines, nor what waits in a sample.
  const lines = payload.before ? [] : ["lines"];
  const sampled = payload.exact ? [] : ["awaits", ...lines];
  return new Set(["functions", "tasks", ...counted, ...sampled]);
}

/** Rows of a tab of COUNTED_TABS: its columns, as {place, name, origin, fn, group, node, ...}. */
function countedRows(profile, tab) {
  const { function: names, origin, ...columns } = profile.payload[COUNTED_TABLES[tab]];
  const entries = Object.entries(columns);
  return names.map((name, index) => ({
    name,
    origin: profile.payload.origins[origin[index]],
    ...Object.fromEntries(entries.map(([column, values]) => [column, values[index]])),
  }));
}

/** Whether a zoom to a box leaves rows out: only the top-down chart has the ways to them. */
function narrows(box) {
  return box !== null && box.chart.view === "top";
}

/** Whether all that a row is about lies in a box of the top-down chart, as its first way says. */
function isWithin(box, { group, thread, node }) {
  const path = box.chart.pathOf(box);
  const { tree } = box.chart;
  const keys = tree.keysOf(group, thread, node);
  return path.every((key, place) => keys[place] === key || keys[place] === ANY_KEY);
}

const COUNTED_COLUMNS = {
  counted: (tables) => {
    const { awaits } = tables.profile.payload;
    const total = sumOf(awaits.total) || 1;
    const time = (id, hint) => ({
      id, label: id, band: "one await", type: "time", hint, value: (row) => row[id],
    });
    return [
      ...lineColumns(tables, "await site"),
      awaitedColumn(),
      taskColumn(tables),
      {
        id: "count", label: "count", band: "awaits", type: "count",
        hint: "How often, exactly", value: (row) => row.count,
      },
      ...failureColumns(awaits),
      {
        id: "total", label: "total", band: "time awaiting", type: "time",
        hint: "All of them together, by the wall clock", value: (row) => row.total,
        bar: (row) => row.total / total,
      },
      time("mean", "The total divided by the count"),
      time("min", "The shortest"),
      time("p50", "Half of them took no longer, within 3 %"),
      time("p95", "Of a hundred, five took longer, within 3 %"),
      time("p99", "Of a hundred, one took longer, within 3 %"),
      time("max", "The longest"),
    ];
  },
  repeats: (tables) => {
    const each = "by each of them";
    return [
      ...lineColumns(tables, "await site"),
      awaitedColumn(),
      taskColumn(tables),
      {
        id: "units", label: "tasks", type: "count", value: (row) => row.units,
        hint: "Tasks that did so, or requests where one task serves several",
      },
      {
        id: "each", label: "average", band: each, type: "count", value: (row) => row.each,
        hint: "How often one of them awaited the operation named, which took longest",
        text: (row) => (row.each % 1 ? row.each.toFixed(1) : formatCount(row.each)),
      },
      {
        id: "most", label: "most", band: each, type: "count", value: (row) => row.most,
        hint: "The most that one of them did",
      },
      {
        id: "total", label: "time", band: "all together", type: "time", value: (row) => row.total,
        hint: "What the repeated awaits of this line took, of all their operations",
        bar: (row) => row.whole && row.total / row.whole,
      },
      {
        id: "whole", label: "of", band: "all together", type: "time", value: (row) => row.whole,
        hint: "How long those tasks or requests took, from their first await to their last",
      },
    ];
  },
  blocks: (tables) => {
    const { blocks, blockLimit } = tables.profile.payload;
    const { threads } = tables.profile;
    const band = blockLimit ? `over ${formatDuration(blockLimit)}` : "stretches";
    const total = sumOf(blocks.total) || 1;
    const several = (column) => new Set(column).size > 1;
    const place = [
      {
        id: "thread", label: "thread", type: "text", value: (row) => threads[row.thread],
      },
      { id: "loop", label: "loop", type: "text", value: (row) => row.loop },
    ].filter(({ id }) => several(blocks[id]));
    return [
      ...lineColumns(tables, "line"),
      {
        id: "inside", label: "was in", type: "text", keepEnd: true,
        hint: "What the line had called in the middle of the longest stretch",
        value: (row) => row.inside,
      },
      taskColumn(tables),
      ...place,
      {
        id: "count", label: "times", band, type: "count", value: (row) => row.count,
        hint: "How often it kept the loop from going on for longer than the limit",
      },
      {
        id: "total", label: "total", band, type: "time", value: (row) => row.total,
        hint: "All such stretches together, by the wall clock",
        bar: (row) => row.total / total,
      },
      {
        id: "worst", label: "worst", band, type: "time", value: (row) => row.worst,
        hint: "The longest",
      },
      {
        id: "waiting", label: "waiting", type: "count", value: (row) => row.waiting,
        hint: "Tasks that were ready to go on meanwhile, at the most",
      },
    ];
  },
};

const COUNTED_ORDERS = {
  counted: () => ({
    note: "your code first, by time",
    keys: (row) => [isTheirs(row), -row.total],
  }),
  repeats: () => ({ column: "total", descending: true }),
  blocks: () => ({ column: "total", descending: true }),
};

const COUNTED_EMPTY = {
  counted: "nothing was awaited here",
  repeats: "nothing was repeated here",
  blocks: "no loop was blocked here",
};

function sumOf(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0);
}

function lineColumns(tables, label) {
  const { profile } = tables;
  return [
    {
      id: "place", label, type: "text", keepEnd: true, value: (row) => row.place,
      title: (row) => (row.fn < 0 ? row.place : profile.functionPath(row.fn)),
    },
    {
      id: "name", label: "in", type: "text", value: (row) => row.name,
      title: (row) => (row.fn < 0 ? row.name : profile.functionLabel(row.fn)),
    },
  ];
}

function awaitedColumn() {
  return {
    id: "awaited", label: "awaits", type: "text", keepEnd: true, value: (row) => row.awaited,
    title: (row) => `${row.operations ?? row.awaited}, over ${row.over}`,
  };
}

function taskColumn(tables) {
  const { profile } = tables;
  return {
    id: "task", label: "task", type: "text",
    value: (row) => profile.describe(profile.groupKey(row.group)).label,
  };
}

/** What went wrong with awaits, where anything did. */
function failureColumns(awaits) {
  const column = (id, hint) => ({
    id, label: id, band: "awaits", type: "count", hint, value: (row) => row[id],
  });
  return [
    column("errors", "Those that ended by an exception"),
    column("cancelled", "Those that were cancelled"),
  ].filter(({ id }) => awaits[id].some((count) => count > 0));
}
