"use strict";

// The traces that samples are linked to: finding one by its id, and its parts of the samples.

/** Traces that the field offers. */
const MOST_TRACES_OFFERED = 50;
const WHOLE_TRACE_ID = /^[0-9a-f]{32}$/;

/** A trace id as other tools spell it, in ours: "0x5B8A...", with blanks or hyphens. */
function traceIdOf(text) {
  return text.trim().toLowerCase().replace(/^0x/, "").replace(/[-\s]/g, "");
}

class Traces {
  /** @param payload what greenprof/exporters/html/payload.py wrote */
  constructor({ traces, parts, samples }) {
    Object.assign(this, { traces, parts, samples });
    this.count = traces.id.length;
    this.places = new Map(traces.id.map((id, place) => [id, place]));
    this.starts = [0];
    for (const count of traces.parts) {
      this.starts.push(this.starts[this.starts.length - 1] + count);
    }
  }

  /** The ids that begin with a text; itself, for an id that no trace has. */
  idsLike(text) {
    const wanted = traceIdOf(text);
    if (WHOLE_TRACE_ID.test(wanted)) {
      return [wanted];
    }
    return wanted ? this.traces.id.filter((id) => id.startsWith(wanted)) : [];
  }

  /** The spans of a trace that samples are linked to. */
  spansOf(id) {
    return this.places.has(id) ? this.traces.spans[this.places.get(id)] : 0;
  }

  /** The columns of the samples, of one trace only; the parts of others are left out. */
  columnsOf(id) {
    const { parts, samples, starts } = this;
    const place = this.places.get(id);
    const [start, end] = place === undefined ? [0, 0] : [starts[place], starts[place + 1]];
    const indexes = parts.sample.slice(start, end);
    const columns = {};
    for (const name of ["group", "thread", "node", "state", "site"]) {
      columns[name] = indexes.map((sample) => samples[name][sample]);
    }
    for (const name of ["count", "wall", "cpu"]) {
      columns[name] = parts[name].slice(start, end);
    }
    return columns;
  }

  /** What the field offers: {id, label} of the traces with the most time. */
  offers(groupNames) {
    const { id, time, group, spans } = this.traces;
    return id.slice(0, MOST_TRACES_OFFERED).map((text, place) => ({
      id: text,
      // A name may hold marks that reorder what is beside it.
      label: `${formatDuration(time[place])}, \u2068${groupNames[group[place]]}\u2069, `
        + plural(spans[place], "span"),
    }));
  }
}

/** The header's facts for a trace, in the place of those of the whole: [label, value, hint]. */
function traceFacts(profile) {
  const { samples, trace, traces } = profile;
  const sum = (column) => column.reduce((total, one) => total + one, 0);
  const times = ["awaiting", "ready", "blocked", "idle"].map((name) => [name, sum(samples[name])]);
  return [
    ["trace", trace, "only its samples are shown"],
    ["spans", formatCount(traces.spansOf(trace)), "that were current when a sample was taken"],
    ["CPU", formatDuration(sum(samples.cpu)), "used by code within the trace"],
    ...times.filter(([name, ns]) => ns > 0 || name === "awaiting")
      .map(([name, ns]) => [name, formatDuration(ns), "of tasks within the trace"]),
    ["samples", formatCount(sum(samples.count)), "taken while one of its spans was current"],
  ];
}

/** The field of the toolbar that takes a trace id; hidden where there are no traces. */
class TraceField {
  /**
   * @param {HTMLElement} host
   * @param {ReportProfile} profile
   * @param {PageState} state
   */
  constructor(host, profile, state) {
    this.traces = profile.traces;
    this.state = state;
    host.hidden = this.traces.count === 0;
    this.input = host.querySelector("input");
    this.result = host.querySelector("[role=status]");
    this.input.title = "Only what was sampled in this OpenTelemetry trace; the first letters do (r)";
    host.querySelector("datalist").replaceChildren(...this.traces.offers(profile.groups.name)
      .map(({ id, label }) => element("option", { value: id, label })));
    this.input.addEventListener("input", () => this.typed(false));
    this.input.addEventListener("change", () => this.typed(true));
    state.listen(() => this.show());
    this.show();
  }

  /** A whole id counts at once, its beginning when the reader is done. */
  typed(done) {
    const text = traceIdOf(this.input.value);
    const ids = this.traces.idsLike(text);
    if (text === "" || WHOLE_TRACE_ID.test(text) || (done && ids.length === 1)) {
      this.state.set({ trace: ids[0] ?? "" });
      this.show();
      return;
    }
    this.say(!done ? "" : ids.length ? `${plural(ids.length, "trace")} begin so` : "no such trace");
  }

  end() {
    this.input.value = "";
    this.typed(true);
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  show() {
    const { trace } = this.state;
    if (this.input.value !== trace) {
      this.input.value = trace;
    }
    this.say(trace && !this.traces.places.has(trace) ? "no samples in this trace" : "");
  }

  say(text) {
    if (this.result.textContent !== text) {
      this.result.textContent = text;
    }
  }
}
