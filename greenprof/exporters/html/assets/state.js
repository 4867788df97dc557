"use strict";

/**
 * What a reader chose, and its spelling in the URL fragment: a link to a zoomed frame works.
 *
 * The fragment holds only what differs from the defaults; what it says wrongly is ignored, because
 * a link that was cut by a mail program should still show the report.
 */

const LONGEST_STATE_TEXT = 1000;

/** How to read a field's value from the fragment; undefined: it says nothing that makes sense. */
const STATE_READERS = {
  oneOf: (...values) => (text) => (values.includes(text) ? text : undefined),
  flag: (text) => (text === "1" ? true : text === "0" ? false : undefined),
  number: (text) => (/^\d{1,9}$/.test(text) ? Number(text) : undefined),
  text: (text) => text.slice(0, LONGEST_STATE_TEXT),
  traceId: (text) => (/^[0-9a-f]{32}$/.test(text) ? text : undefined),
  path: (text) => (/^\d{1,10}(\.\d{1,10})*$/.test(text) ? text : undefined),
  column: (text) => (/^[A-Za-z0-9]{1,30}[-+]$/.test(text) ? text : undefined),
};

/** The fields, in the order of the fragment. */
const STATE_FIELDS = {
  view: STATE_READERS.oneOf("top", "bottom", "sandwich"),
  clock: STATE_READERS.oneOf("wall", "cpu", "await"),
  group: STATE_READERS.oneOf("all", "task", "thread"),
  mine: STATE_READERS.flag,
  bridges: STATE_READERS.flag,
  idle: STATE_READERS.flag,
  side: STATE_READERS.oneOf("after", "before"),
  trace: STATE_READERS.traceId,
  zoom: STATE_READERS.path,
  fn: STATE_READERS.number,
  mark: STATE_READERS.flag,
  q: STATE_READERS.text,
  tab: STATE_READERS.oneOf(
    "functions", "counted", "repeats", "blocks", "awaits", "tasks", "lines"),
  scope: STATE_READERS.oneOf("zoom", "all"),
  sort: STATE_READERS.column,
  filter: STATE_READERS.text,
  theme: STATE_READERS.oneOf("auto", "light", "dark"),
};

/** A change of these is a place to come back to; in a sandwich, the function in its middle too. */
const STATE_PLACES = ["view", "zoom", "trace"];
/**
 * What Back and Forward change: the place, what it depends on, and what a jump to it changes. How
 * the page looks, what is searched for and which table is read stays as it is.
 */
const STATE_OF_PLACE = [...STATE_PLACES, "fn", "mark", "scope", "group", "mine", "bridges"];
/** Marks the entries of the history that the page wrote: others are links that a reader typed. */
const STATE_ENTRY = "greenprof";

/**
 * The state of the page. Fields: view, clock, group, mine, bridges, idle, side (which of two
 * profiles is drawn), trace (its id, "" all),
 * zoom ("12.45.3": keys from the root's child down, "" the whole), fn (chosen function, -1 none), mark (all boxes of fn
 * stand out), q (search), tab, scope (do the tables follow the zoom), sort ("cpuTotal-", "" the
 * tab's own), filter (of the tables), theme.
 */
class PageState {
  /** @param {string} clock the clock to start with, where the fragment does not say */
  constructor(clock) {
    this.defaults = {
      view: "top", clock: STATE_FIELDS.clock(clock) ?? "wall", group: "task",
      mine: false, bridges: false, idle: false, side: "after", trace: "",
      zoom: "", fn: -1, mark: false, q: "",
      tab: "functions", scope: "zoom", sort: "", filter: "", theme: "auto",
    };
    Object.assign(this, this.defaults);
    this.listeners = [];
    this.read();
    this.keep("replaceState", location.href);
    // Back and Forward cause both events, a fragment typed or pasted by hand the second at least.
    window.addEventListener("popstate", () => this.reread());
    window.addEventListener("hashchange", () => history.state !== STATE_ENTRY && this.reread());
  }

  /** Call `listener(changed: Set of field names)` after every change. */
  listen(listener) {
    this.listeners.push(listener);
  }

  /** Change some fields, write the fragment and tell the listeners what really changed. */
  set(changes) {
    const changed = this.assign(changes);
    if (!changed.size) {
      return;
    }
    const middle = this.view === "sandwich" && changed.has("fn");
    this.write(middle || STATE_PLACES.some((name) => changed.has(name)));
    this.tell(changed);
  }

  /** Return the fragment, without "#". */
  fragment() {
    const parts = new URLSearchParams();
    for (const name of Object.keys(STATE_FIELDS)) {
      const value = this[name];
      if (value === this.defaults[name]) {
        continue;
      }
      parts.set(name, value === true ? "1" : value === false ? "0" : String(value));
    }
    return parts.toString();
  }

  assign(changes) {
    const changed = new Set();
    for (const [name, value] of Object.entries(changes)) {
      if (this[name] !== value) {
        this[name] = value;
        changed.add(name);
      }
    }
    return changed;
  }

  read(names = Object.keys(STATE_FIELDS)) {
    const parts = new URLSearchParams(location.hash.slice(1));
    const values = {};
    for (const name of names) {
      const text = parts.get(name);
      values[name] = (text === null ? undefined : STATE_FIELDS[name](text)) ?? this.defaults[name];
    }
    return this.assign(values);
  }

  reread() {
    const changed = history.state === STATE_ENTRY ? this.read(STATE_OF_PLACE) : this.read();
    this.write(false);
    if (changed.size) {
      this.tell(changed);
    }
  }

  write(isPlace) {
    const url = location.href.split("#")[0] + "#" + this.fragment();
    this.keep(isPlace ? "pushState" : "replaceState", url);
  }

  keep(method, url) {
    try {
      history[method](STATE_ENTRY, "", url);
    } catch {
      // Browsers limit how often a page may do this; the page itself goes on.
    }
  }

  tell(changed) {
    for (const listener of this.listeners) {
      listener(changed);
    }
  }
}
