"use strict";

// Rows of the page's tables, of the whole profile or of the samples of a mask ("scope"): the same
// figures as greenprof/analysis.py gives for the whole. Times are nanoseconds.

/** Own and total times of the profile's stack nodes within a scope. */
class NodeFigures {
  constructor(profile, scope) {
    const { samples, sampleCount, nodeParent, nodeCount } = profile;
    const columns = () => ({
      cpu: new Float64Array(nodeCount),
      await: new Float64Array(nodeCount),
      blocked: new Float64Array(nodeCount),
      seen: new Float64Array(nodeCount),
    });
    this.own = columns();
    for (let sample = 0; sample < sampleCount; sample++) {
      const node = samples.node[sample];
      if (node >= 0 && (scope === null || scope[sample] === 1)) {
        this.own.cpu[node] += samples.cpu[sample];
        this.own.await[node] += samples.awaiting[sample] + samples.ready[sample];
        this.own.blocked[node] += samples.blocked[sample];
        // Nothing here has a column for idle time, so idle looks do not count as looks either.
        this.own.seen[node] += samples.state[sample] === STATE_IDLE ? 0 : samples.count[sample];
      }
    }
    this.total = {};
    for (const [name, own] of Object.entries(this.own)) {
      const total = own.slice();
      for (let node = nodeCount - 1; node >= 0; node--) {
        if (nodeParent[node] >= 0) {
          total[nodeParent[node]] += total[node];
        }
      }
      this.total[name] = total;
    }
  }

  /** The figures of a scope; the last ones are kept, as the tables come one after another. */
  static of(profile, scope) {
    const last = profile.lastFigures;
    if (last === undefined || last.scope !== scope) {
      profile.lastFigures = { scope, figures: new NodeFigures(profile, scope) };
    }
    return profile.lastFigures.figures;
  }
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

/** Sums of stack nodes' figures for rows that are given by number: functions, or lines. */
class RowSums {
  constructor(profile, scope, rowCount) {
    this.figures = NodeFigures.of(profile, scope);
    this.outermost = outermostNodes(profile);
    this.sums = new Float64Array(rowCount * ROW_TIMES.length);
  }

  add(row, node) {
    const { own, total } = this.figures;
    // Of a small scope most stack nodes have nothing.
    if (total.seen[node] === 0 && total.cpu[node] === 0 && total.await[node] === 0) {
      if (total.blocked[node] === 0) {
        return;
      }
    }
    const { sums } = this;
    const start = row * ROW_TIMES.length;
    sums[start] += own.cpu[node];
    sums[start + 1] += own.await[node];
    sums[start + 2] += own.blocked[node];
    sums[start + 3] += own.seen[node];
    if (this.outermost[node] === 1) {
      sums[start + 4] += total.cpu[node];
      sums[start + 5] += total.await[node];
      sums[start + 6] += total.blocked[node];
      sums[start + 7] += total.seen[node];
    }
  }

  /** Whether a row has anything; a line of a recursive function may have its total elsewhere. */
  has(row) {
    const start = row * ROW_TIMES.length;
    return this.sums.subarray(start, start + ROW_TIMES.length).some((sum) => sum > 0);
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
  const { functions, functionCount, frameFunction, nodeFrame, nodeCount } = profile;
  const sums = new RowSums(profile, scope, functionCount);
  for (let node = 0; node < nodeCount; node++) {
    sums.add(frameFunction[nodeFrame[node]], node);
  }
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
  const { frameFunction, frameLine, nodeFrame, nodeCount } = profile;
  const lines = [...new Set(frameLine.filter((_, frame) => frameFunction[frame] === fn))];
  lines.sort((one, other) => one - other);
  const numbers = new Map(lines.map((line, number) => [line, number]));
  const sums = new RowSums(profile, scope, lines.length);
  for (let node = 0; node < nodeCount; node++) {
    const frame = nodeFrame[node];
    if (frameFunction[frame] === fn) {
      sums.add(numbers.get(frameLine[frame]), node);
    }
  }
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
