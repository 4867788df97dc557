"use strict";

// Rows of the page's tables, of the whole profile or of a part of it ("scope"): the same figures as
// greenprof/analysis.py gives for the whole. Times are nanoseconds.
//
// A scope is a mask over the samples, see Chart.samplesUnder: PART_CPU where a sample's CPU time
// counts, PART_WAIT where its waiting and its observations do. `null` stands for everything.
//
// "Shown" is {bridges, mine, idle}, the switches that hide frames or time. What hidden frames spent
// in themselves counts as that of the frame above them, as it does in the graph.

const ALL_SHOWN = { bridges: true, mine: false, idle: false };

// What is summed, in the order of the columns of arrays.
const SUMMED_NAMES = ["cpu", "await", "blocked", "idle", "seen"];
const SUMMED = SUMMED_NAMES.length;

/** Adds a part of a sample to columns of an array. */
function addSample(sums, start, samples, sample, part, idle) {
  if (part & PART_CPU) {
    sums[start] += samples.cpu[sample];
  }
  if (part & PART_WAIT) {
    sums[start + 1] += samples.awaiting[sample] + samples.ready[sample];
    sums[start + 2] += samples.blocked[sample];
    if (idle || samples.state[sample] !== STATE_IDLE) {
      sums[start + 3] += samples.idle[sample];
      sums[start + 4] += samples.count[sample];
    }
  }
}

/** Which part of a sample is within a scope. */
function partOf(scope, sample) {
  return scope === null ? PART_ALL : scope[sample];
}

/** Whether all that was recorded is within a scope. */
function isWhole(profile, scope) {
  return scope === null && profile.trace === "";
}

/** Sums for each stack node and what is below it within a scope, SUMMED columns each. */
function nodeTotals(profile, scope, idle) {
  const { samples, sampleCount, nodeParent, nodeCount } = profile;
  // The last one is kept: the tables come one after another.
  const last = profile.lastTotals;
  if (last !== undefined && last.scope === scope && last.idle === idle) {
    return last.totals;
  }
  const totals = new Float64Array(nodeCount * SUMMED);
  for (let sample = 0; sample < sampleCount; sample++) {
    if (samples.node[sample] >= 0) {
      const start = samples.node[sample] * SUMMED;
      addSample(totals, start, samples, sample, partOf(scope, sample), idle);
    }
  }
  for (let node = nodeCount - 1; node >= 0; node--) {
    const above = nodeParent[node] * SUMMED;
    if (above >= 0) {
      const start = node * SUMMED;
      for (let column = 0; column < SUMMED; column++) {
        totals[above + column] += totals[start + column];
      }
    }
  }
  profile.lastTotals = { scope, idle, totals };
  return totals;
}

/**
 * What the switches make of the stack nodes: {owner: the node itself, or if it is hidden the next
 * one above that is not (-1: none); outermost: a mask of those that are not hidden and whose
 * function is in no such level above them, as recursion counts once}.
 */
function shownNodes(profile, { bridges, mine }) {
  const last = profile.lastShown;
  if (last !== undefined && last.bridges === bridges && last.mine === mine) {
    return last;
  }
  const { nodeParent, nodeFrame, nodeCount, frameFunction } = profile;
  const { first, next, roots } = childLists(nodeParent, nodeCount);
  const above = new Int32Array(profile.functionCount);
  const hidden = hiddenFrames(profile, { bridges, mine });
  const outermost = new Uint8Array(nodeCount);
  const owner = new Int32Array(nodeCount);
  let node = roots;
  while (node >= 0) {
    const frame = nodeFrame[node];
    if (hidden[frame] === 0) {
      outermost[node] = above[frameFunction[frame]]++ === 0 ? 1 : 0;
      owner[node] = node;
    } else {
      owner[node] = nodeParent[node] < 0 ? -1 : owner[nodeParent[node]];
    }
    if (first[node] >= 0) {
      node = first[node];
      continue;
    }
    // Up to where there is another child; stacks may be too deep for a recursive function.
    while (node >= 0) {
      above[frameFunction[nodeFrame[node]]] -= 1 - hidden[nodeFrame[node]];
      if (next[node] >= 0) {
        node = next[node];
        break;
      }
      node = nodeParent[node];
    }
  }
  profile.lastShown = { bridges, mine, owner, outermost };
  return profile.lastShown;
}

const ROW_TIMES = ["Self", "Total"].flatMap((part) => SUMMED_NAMES.map((name) => name + part));

/** Figures of rows given by number; `rowOfFrame` tells each frame's (-1: none). */
class RowSums {
  constructor(profile, scope, shown, rowOfFrame, rowCount) {
    const { samples, sampleCount, nodeFrame, nodeCount } = profile;
    const { idle } = shown;
    const columns = ROW_TIMES.length;
    const sums = new Float64Array(rowCount * columns);
    const { owner, outermost } = shownNodes(profile, shown);
    for (let sample = 0; sample < sampleCount; sample++) {
      const node = samples.node[sample] < 0 ? -1 : owner[samples.node[sample]];
      const row = node < 0 ? -1 : rowOfFrame[nodeFrame[node]];
      if (row >= 0) {
        addSample(sums, row * columns, samples, sample, partOf(scope, sample), idle);
      }
    }
    const totals = nodeTotals(profile, scope, idle);
    for (let node = 0; node < nodeCount; node++) {
      const row = outermost[node] === 1 ? rowOfFrame[nodeFrame[node]] : -1;
      if (row >= 0) {
        const start = row * columns + SUMMED;
        const added = node * SUMMED;
        for (let column = 0; column < SUMMED; column++) {
          sums[start + column] += totals[added + column];
        }
      }
    }
    this.sums = sums;
  }

  /** Whether a row has anything; a line of a recursive function may have its total elsewhere. */
  has(row) {
    const start = row * ROW_TIMES.length;
    for (let column = 0; column < ROW_TIMES.length; column++) {
      if (this.sums[start + column] > 0) {
        return true;
      }
    }
    return false;
  }

  /** Writes the figures of a row number into a row of a table. */
  fill(row, into) {
    for (let column = 0; column < ROW_TIMES.length; column++) {
      into[ROW_TIMES[column]] = this.sums[row * ROW_TIMES.length + column];
    }
    return into;
  }
}

/** Calls of the functions within a scope, by number, as the exact engine counted them. */
function callCounts(profile, scope) {
  const { samples, sampleCount, nodeFrame, frameFunction, functionCount } = profile;
  const calls = new Float64Array(functionCount);
  for (let sample = 0; profile.payload.exact && sample < sampleCount; sample++) {
    const node = samples.node[sample];
    if (samples.state[sample] === 0 && node >= 0 && partOf(scope, sample) & PART_WAIT) {
      calls[frameFunction[nodeFrame[node]]] += samples.count[sample];
    }
  }
  return calls;
}

/**
 * Functions; those with anything in the scope: {fn, name, place, origin, bridge, calls, cpuSelf,
 * ...}.
 */
function functionRows(profile, scope, shown = ALL_SHOWN) {
  const { functions, functionCount, frameFunction } = profile;
  const sums = new RowSums(profile, scope, shown, frameFunction, functionCount);
  const bridges = profile.bridgeFunctions;
  const calls = callCounts(profile, scope);
  const rows = [];
  for (let fn = 0; fn < functionCount; fn++) {
    if (isWhole(profile, scope) || sums.has(fn)) {
      const row = {
        fn,
        name: functions.name[fn],
        place: profile.functionPlace(fn),
        origin: profile.payload.origins[functions.origin[fn]],
        bridge: bridges[fn] === 1,
        calls: calls[fn],
      };
      rows.push(sums.fill(fn, row));
    }
  }
  return rows;
}

/** Lines of a function, by number: {line, seenSelf, ...}; totals add up to the function's. */
function lineRows(profile, fn, scope, shown = ALL_SHOWN) {
  const { frameFunction, frameLine } = profile;
  const lines = [...new Set(frameLine.filter((_, frame) => frameFunction[frame] === fn))];
  lines.sort((one, other) => one - other);
  const numbers = new Map(lines.map((line, number) => [line, number]));
  const rowOfFrame = frameFunction.map((its, frame) =>
    its === fn ? numbers.get(frameLine[frame]) : -1,
  );
  const sums = new RowSums(profile, scope, shown, rowOfFrame, lines.length);
  const rows = lines.map((line, number) => sums.fill(number, { line }));
  return rows.filter((_, number) => sums.has(number));
}

/** Where tasks waited: {site, name, place, awaited, origin, fn, seen, awaiting, ready}. */
function siteRows(profile, scope) {
  const { samples, sampleCount, sites } = profile;
  const rows = [];
  for (let site = 0; site < sites.function.length; site++) {
    rows.push({
      site,
      name: sites.function[site],
      place: sites.place[site],
      awaited: sites.awaited[site],
      origin: profile.payload.origins[sites.origin[site]],
      fn: sites.fn[site],
      seen: 0,
      awaiting: 0,
      ready: 0,
    });
  }
  for (let sample = 0; sample < sampleCount; sample++) {
    const site = samples.site[sample];
    if (site >= 0 && partOf(scope, sample) & PART_WAIT) {
      rows[site].seen += samples.count[sample];
      rows[site].awaiting += samples.awaiting[sample];
      rows[site].ready += samples.ready[sample];
    }
  }
  const has = (row) => row.seen + row.awaiting + row.ready > 0;
  return isWhole(profile, scope) ? rows : rows.filter(has);
}

/** Task groups: {group, name, kind, tasks, cpu, awaiting, ready, blocked, idle, seen}. */
function groupRows(profile, scope) {
  const { samples, sampleCount, groups } = profile;
  const rows = groups.name.map((name, group) => ({
    group,
    name,
    kind: groups.kind[group],
    tasks: profile.tasksOf(group),
    cpu: 0,
    awaiting: 0,
    ready: 0,
    blocked: 0,
    idle: 0,
    seen: 0,
  }));
  for (let sample = 0; sample < sampleCount; sample++) {
    const part = partOf(scope, sample);
    const row = rows[samples.group[sample]];
    if (part & PART_CPU) {
      row.cpu += samples.cpu[sample];
    }
    if (part & PART_WAIT) {
      row.seen += samples.count[sample];
      row.awaiting += samples.awaiting[sample];
      row.ready += samples.ready[sample];
      row.blocked += samples.blocked[sample];
      row.idle += samples.idle[sample];
    }
  }
  const has = (row) => row.seen + row.cpu + row.awaiting + row.ready + row.blocked + row.idle > 0;
  return isWhole(profile, scope) ? rows : rows.filter(has);
}
