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

/** Adds a stack node's figures to a row of functions or of lines. */
function addNode(row, figures, node, outermost) {
  const { own, total } = figures;
  row.seenSelf += own.seen[node];
  row.cpuSelf += own.cpu[node];
  row.awaitSelf += own.await[node];
  row.blockedSelf += own.blocked[node];
  if (outermost) {
    row.seenTotal += total.seen[node];
    row.cpuTotal += total.cpu[node];
    row.awaitTotal += total.await[node];
    row.blockedTotal += total.blocked[node];
  }
}

function emptyTimes() {
  return {
    cpuSelf: 0,
    cpuTotal: 0,
    awaitSelf: 0,
    awaitTotal: 0,
    blockedSelf: 0,
    blockedTotal: 0,
    seenSelf: 0,
    seenTotal: 0,
  };
}

function hasFigures(row) {
  return row.seenTotal > 0 || row.cpuTotal > 0 || row.awaitTotal > 0 || row.blockedTotal > 0;
}

/** Functions; those with anything in the scope: {fn, name, place, origin, bridge, cpuSelf, ...}. */
function functionRows(profile, scope) {
  const figures = NodeFigures.of(profile, scope);
  const outermost = outermostNodes(profile);
  const rows = [];
  for (let fn = 0; fn < profile.functionCount; fn++) {
    rows.push({
      fn,
      name: profile.functions.name[fn],
      place: profile.functionPlace(fn),
      origin: profile.payload.origins[profile.functions.origin[fn]],
      bridge: profile.bridgeFunctions[fn] === 1,
      ...emptyTimes(),
    });
  }
  for (let node = 0; node < profile.nodeCount; node++) {
    const row = rows[profile.frameFunction[profile.nodeFrame[node]]];
    addNode(row, figures, node, outermost[node] === 1);
  }
  return scope === null ? rows : rows.filter(hasFigures);
}

/** Lines of a function, by number: {line, seenSelf, ...}; totals add up to the function's. */
function lineRows(profile, fn, scope) {
  const figures = NodeFigures.of(profile, scope);
  const outermost = outermostNodes(profile);
  const rows = new Map();
  for (let node = 0; node < profile.nodeCount; node++) {
    const frame = profile.nodeFrame[node];
    if (profile.frameFunction[frame] === fn) {
      const line = profile.frameLine[frame];
      if (!rows.has(line)) {
        rows.set(line, { line, ...emptyTimes() });
      }
      addNode(rows.get(line), figures, node, outermost[node] === 1);
    }
  }
  // A line of a recursive function may have time of its own, and its total at another line.
  const found = [...rows.values()].filter((row) => hasFigures(row) || row.seenSelf > 0);
  return found.sort((one, other) => one.line - other.line);
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
