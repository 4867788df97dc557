"use strict";

// Rows of the page's tables, of the whole profile or of the samples of a mask ("scope"): the same
// figures as greenprof/analysis.py gives for the whole. Times are nanoseconds.

// What is summed, in the order of the columns of arrays: CPU, await, blocked, seen.
const SUMMED = 4;

/** Adds a sample's columns to those of an array. */
function addSample(sums, start, samples, sample) {
  sums[start] += samples.cpu[sample];
  sums[start + 1] += samples.awaiting[sample] + samples.ready[sample];
  sums[start + 2] += samples.blocked[sample];
  // Nothing here has a column for idle time, so idle looks do not count as looks either.
  sums[start + 3] += samples.state[sample] === STATE_IDLE ? 0 : samples.count[sample];
}

/** Sums for each stack node and what is below it within a scope, SUMMED columns each. */
function nodeTotals(profile, scope) {
  const { samples, sampleCount, nodeParent, nodeCount } = profile;
  // The last one is kept: the tables come one after another.
  const last = profile.lastTotals;
  if (last !== undefined && last.scope === scope) {
    return last.totals;
  }
  const totals = new Float64Array(nodeCount * SUMMED);
  for (let sample = 0; sample < sampleCount; sample++) {
    if (samples.node[sample] >= 0 && (scope === null || scope[sample] === 1)) {
      addSample(totals, samples.node[sample] * SUMMED, samples, sample);
    }
  }
  for (let node = nodeCount - 1; node >= 0; node--) {
    const above = nodeParent[node] * SUMMED;
    if (above >= 0) {
      const start = node * SUMMED;
      totals[above] += totals[start];
      totals[above + 1] += totals[start + 1];
      totals[above + 2] += totals[start + 2];
      totals[above + 3] += totals[start + 3];
    }
  }
  profile.lastTotals = { scope, totals };
  return totals;
}

/** A mask of the stack nodes whose function is in no level above them: recursion counts once. */
function outermostNodes(profile) {
  if (profile.outermost === undefined) {
    const { nodeParent, nodeFrame, nodeCount, frameFunction } = profile;
    const { first, next, roots } = childLists(nodeParent, nodeCount);
    const above = new Int32Array(profile.functionCount);
    const outermost = new Uint8Array(nodeCount);
    let node = roots;
    while (node >= 0) {
      const fn = frameFunction[nodeFrame[node]];
      outermost[node] = above[fn]++ === 0 ? 1 : 0;
      if (first[node] >= 0) {
        node = first[node];
        continue;
      }
      // Up to where there is another child; stacks may be too deep for a recursive function.
      while (node >= 0) {
        above[frameFunction[nodeFrame[node]]]--;
        if (next[node] >= 0) {
          node = next[node];
          break;
        }
        node = nodeParent[node];
      }
    }
    profile.outermost = outermost;
  }
  return profile.outermost;
}

const ROW_TIMES = [
  "cpuSelf",
  "awaitSelf",
  "blockedSelf",
  "seenSelf",
  "cpuTotal",
  "awaitTotal",
  "blockedTotal",
  "seenTotal",
];

/** Figures of rows given by number; `rowOfFrame` tells each frame's (-1: none). */
class RowSums {
  constructor(profile, scope, rowOfFrame, rowCount) {
    const { samples, sampleCount, nodeFrame, nodeCount } = profile;
    const columns = ROW_TIMES.length;
    const sums = new Float64Array(rowCount * columns);
    for (let sample = 0; sample < sampleCount; sample++) {
      const node = samples.node[sample];
      if (node >= 0 && (scope === null || scope[sample] === 1)) {
        const row = rowOfFrame[nodeFrame[node]];
        if (row >= 0) {
          addSample(sums, row * columns, samples, sample);
        }
      }
    }
    const totals = nodeTotals(profile, scope);
    const outermost = outermostNodes(profile);
    for (let node = 0; node < nodeCount; node++) {
      const row = outermost[node] === 1 ? rowOfFrame[nodeFrame[node]] : -1;
      if (row >= 0) {
        const start = row * columns + SUMMED;
        const added = node * SUMMED;
        sums[start] += totals[added];
        sums[start + 1] += totals[added + 1];
        sums[start + 2] += totals[added + 2];
        sums[start + 3] += totals[added + 3];
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

/** Functions; those with anything in the scope: {fn, name, place, origin, bridge, cpuSelf, ...}. */
function functionRows(profile, scope) {
  const { functions, functionCount, frameFunction } = profile;
  const sums = new RowSums(profile, scope, frameFunction, functionCount);
  const bridges = profile.bridgeFunctions;
  const rows = [];
  for (let fn = 0; fn < functionCount; fn++) {
    if (scope === null || sums.has(fn)) {
      const row = {
        fn,
        name: functions.name[fn],
        place: profile.functionPlace(fn),
        origin: profile.payload.origins[functions.origin[fn]],
        bridge: bridges[fn] === 1,
      };
      rows.push(sums.fill(fn, row));
    }
  }
  return rows;
}

/** Lines of a function, by number: {line, seenSelf, ...}; totals add up to the function's. */
function lineRows(profile, fn, scope) {
  const { frameFunction, frameLine } = profile;
  const lines = [...new Set(frameLine.filter((_, frame) => frameFunction[frame] === fn))];
  lines.sort((one, other) => one - other);
  const numbers = new Map(lines.map((line, number) => [line, number]));
  const rowOfFrame = frameFunction.map((its, frame) =>
    its === fn ? numbers.get(frameLine[frame]) : -1,
  );
  const sums = new RowSums(profile, scope, rowOfFrame, lines.length);
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
    if (site >= 0 && (scope === null || scope[sample] === 1)) {
      const state = samples.state[sample];
      rows[site].seen += samples.count[sample];
      rows[site].awaiting += state === STATE_AWAITING ? samples.wall[sample] : 0;
      rows[site].ready += state === STATE_READY ? samples.wall[sample] : 0;
    }
  }
  return scope === null ? rows : rows.filter((row) => row.seen + row.awaiting + row.ready > 0);
}

/** Task groups: {group, name, kind, tasks, wall, cpu, awaiting, ready, blocked, idle, seen}. */
function groupRows(profile, scope) {
  const { samples, sampleCount, groups } = profile;
  const states = ["", "awaiting", "ready", "blocked", "idle"];
  const rows = groups.name.map((name, group) => ({
    group,
    name,
    kind: groups.kind[group],
    tasks: groups.tasks[group],
    wall: 0,
    cpu: 0,
    awaiting: 0,
    ready: 0,
    blocked: 0,
    idle: 0,
    seen: 0,
  }));
  for (let sample = 0; sample < sampleCount; sample++) {
    if (scope === null || scope[sample] === 1) {
      const row = rows[samples.group[sample]];
      row.wall += samples.wall[sample];
      row.cpu += samples.cpu[sample];
      row.seen += samples.count[sample];
      // Here a state's time is all of it, CPU time included: a group's life in states.
      if (samples.state[sample] > 0) {
        row[states[samples.state[sample]]] += samples.wall[sample];
      }
    }
  }
  return scope === null ? rows : rows.filter((row) => row.seen + row.wall + row.cpu > 0);
}
