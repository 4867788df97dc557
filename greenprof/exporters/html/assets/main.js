"use strict";

/**
 * Joins the parts: a change of the page's state makes anew what depends on it, and nothing else.
 * A tree depends on the switches; a chart on the tree, clock and view; the tables on the zoom.
 */

/** Rows of a zoomed box's callers that are left in view above it. */
const ROWS_ABOVE = 3;
/** Tables of smaller profiles are made within a frame of animation. */
const MOST_NODES_AT_ONCE = 5000;

class ReportPage {
  constructor(payload) {
    const byId = (id) => document.getElementById(id);
    chooseWords(payload);
    this.profile = new ReportProfile(payload);
    this.state = new PageState(payload.clock);
    const clocks = clocksOf(payload);
    if (!clocks.includes(this.state.clock)) {
      this.state.set({ clock: payload.clock });
    }
    this.selected = null;
    this.darkSystem = matchMedia("(prefers-color-scheme: dark)");
    this.printing = matchMedia("print");

    showWarnings(byId("warnings"), payload.warnings);
    this.openHelp = makeHelp(byId("help"), payload);
    const header = byId("header");
    const sides = this.profile.sides !== null;
    this.toolbar = new Toolbar(byId("toolbar"), header, this.state, this.openHelp, clocks, sides);
    this.traceField = new TraceField(byId("trace"), this.profile, this.state);
    this.legend = new Legend(byId("legend"), this.profile);
    this.nothing = byId("nothing");
    this.host = byId("graph");
    this.graph = new FlameGraph(this.host, {
      hover: (box, point) => this.hover(box, point),
      select: (box) => this.select(box),
      zoom: (box) => this.zoomTo(box),
    });
    this.details = new BoxDetails(this.profile, byId("tooltip"), byId("details"), {
      zoom: (box) => {
        this.zoomTo(box);
        this.graph.focus();
      },
      sandwich: (fn) => {
        this.state.set({ view: "sandwich", fn, zoom: "", mark: false });
        this.graph.focus();
      },
      lines: (fn) => this.state.set({ tab: "lines", fn, sort: "", filter: "", mark: false }),
    });
    this.tables = new TablePanel(this.profile, this.state, {
      open: (tab, row) => this.goTo(tab, row),
    });
    this.marks = new Marks(byId("mark"), () => {
      this.endMark();
      this.graph.focus();
    });
    this.toolbar.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        this.nextMatch(event.shiftKey ? -1 : 1);
      }
    });
    this.state.listen((changed) => this.update(changed));
    for (const media of [this.darkSystem, this.printing]) {
      media.addEventListener("change", () => this.showTheme());
    }
    // Some browsers tell of printing by the media query only, some by these events only.
    window.addEventListener("beforeprint", () => this.print(true));
    window.addEventListener("afterprint", () => this.print(false));
    listenToKeys(this.keys());
    this.update(null);
    this.scrollToZoom();
  }

  get dark() {
    const { theme } = this.state;
    return !this.onPaper && (theme === "auto" ? this.darkSystem.matches : theme === "dark");
  }

  showTheme() {
    this.print(this.printing.matches);
    this.update(new Set(["theme"]));
  }

  print(on) {
    if (on !== Boolean(this.onPaper)) {
      this.onPaper = on;
      this.update(new Set(["theme"]));
      this.graph.print(on);
      this.tables.print(on);
    }
  }

  /** Make anew what depends on the fields that changed; all of it for null. */
  update(changed) {
    const has = (...names) => changed === null || names.some((name) => changed.has(name));
    const { state } = this;
    if (has("theme")) {
      document.documentElement.dataset.theme = state.theme;
    }
    if (!this.profile.traces.count) {
      state.trace = "";
    }
    if (has("trace")) {
      this.profile.choose(state.trace);
      showHeader(document.getElementById("header"), this.profile);
    }
    if (state.fn >= this.profile.functionCount) {
      Object.assign(state, { fn: -1, mark: false });
    }
    if (state.view === "sandwich" && state.fn < 0) {
      state.fn = firstFunction(this.profile, state.clock);
    }
    const newTree = has("group", "bridges", "mine", "idle", "side", "trace");
    if (newTree) {
      this.makeTree();
    }
    const switched = newTree && !has("zoom", "view");
    const newChart = newTree || has("clock", "view") || (state.view === "sandwich" && has("fn"));
    if (newChart) {
      this.makeChart(switched);
    }
    if (newChart || has("theme")) {
      this.legend.show(state, this.dark);
    }
    if (newChart || has("zoom")) {
      this.findZoom(switched);
    }
    const newMatches = newChart || has("q", "mark") || (state.mark && has("fn"));
    if (newMatches) {
      this.findMatches();
    }
    if (newMatches || has("zoom", "theme")) {
      this.draw();
    }
    if (this.profile.nodeCount < MOST_NODES_AT_ONCE || has("tab", "sort", "filter", "scope")) {
      this.showRest();
    } else {
      this.showRestSoon();
    }
  }

  /** Show what stands below the graph. */
  showRest() {
    this.restPending = false;
    this.showDetails();
    this.tables.show(this.scope());
  }

  /** Let the graph be painted first: the tables of a large profile take as long as all else. */
  showRestSoon() {
    if (!this.restPending) {
      this.restPending = true;
      requestAnimationFrame(() => setTimeout(() => this.restPending && this.showRest()));
    }
  }

  makeTree() {
    const { profile, state } = this;
    if (profile.sides) {
      const { before, after } = profile.sides.each(() => new ViewTree(profile, state));
      profile.sides.draw(state.side);
      this.tree = state.side === "after" ? after : before;
      this.tree.other = state.side === "after" ? before : after;
      return;
    }
    this.tree = new ViewTree(profile, state);
  }

  makeChart(switched) {
    const { state, tree } = this;
    const sameView = this.chart?.view === state.view;
    const selected = sameView && this.selected && this.chart.pathOf(this.selected);
    this.chart = new Chart(tree, state.clock, state.view, state.fn);
    const likeIt = switched ? boxLike : (chart, path) => chart.boxAt(path);
    this.selected = selected ? likeIt(this.chart, selected) : null;
    const time = this.chart.whole ? formatDuration(this.chart.whole) : "no";
    // The one box whose name depends on the clock.
    const change = tree.other ? `, ${changeLabel(this.chart.down)}` : "";
    this.profile.describe(this.profile.rootKey).label =
      `all: ${time} ${rootWords(state.clock)}${change}`;
  }

  /** Find the box that the state says; after a switch, the one most like it. */
  findZoom(switched) {
    const { state, chart } = this;
    const path = pathOfText(state.zoom);
    const box = switched && path.length ? boxLike(chart, path) : boxOnPath(chart, path);
    this.zoom = box?.parent ? box : null;
    const found = pathText(this.zoom);
    if (found !== state.zoom) {
      state.zoom = found;
      state.write(false);
    }
  }

  findMatches() {
    const { state, chart, marks } = this;
    marks.find(chart, state);
    this.toolbar.showFound(marks.found, chart.whole, state);
  }

  endMark() {
    this.state.set({ mark: false });
    this.marks.say("", "");
  }

  draw() {
    const reason = whyNothing(this.chart);
    this.details.strip.hidden = Boolean(reason);
    this.nothing.hidden = !reason;
    this.nothing.textContent = reason;
    this.host.classList.toggle("empty", Boolean(reason));
    this.graph.show(this.chart, {
      zoom: this.zoom, matches: this.marks.matches, selected: this.selected, dark: this.dark,
    });
  }

  showDetails() {
    const box = this.selected ?? this.hovered ?? this.zoom ?? this.chart.down;
    const isZoomed = box === (this.zoom ?? this.chart.down);
    this.details.show(box, this.chart, this.state.clock, { isZoomed, folded: this.state.mine });
  }

  hover(box, point) {
    const same = box === this.hovered;
    this.hovered = box;
    this.details.hover(box, point, this.chart, this.state.clock);
    if (!this.selected && !same) {
      this.showDetails();
    }
  }

  select(box) {
    this.selected = box;
    const { state } = this;
    const fn = box ? box.info.fn : -1;
    // In a sandwich the chosen function is the one in its middle.
    if (fn >= 0 && state.view !== "sandwich") {
      state.set({ fn, mark: state.mark && fn === state.fn });
    }
    if (!this.restPending) {
      this.showDetails();
    }
  }

  zoomTo(box) {
    this.state.set({ zoom: pathText(box) });
  }

  /** Go from a row of a table to the graph; the table stays as it is. */
  goTo(tab, row) {
    const { state, profile } = this;
    if (tab === "tasks") {
      const zoom = String(profile.groupKey(row.group));
      state.set({ group: "task", view: "top", zoom, mark: false, q: "", scope: "all" });
      this.selected = this.zoom;
      if (!this.zoom) {
        this.marks.say(`no ${CLOCK_WORDS[state.clock]} in`, row.name);
      }
    } else if (row.fn >= 0) {
      this.goToFunction(row.fn, tab === "awaits" ? row.site : -1, rootKeyOf(profile, state.group, row));
    } else {
      return;
    }
    this.draw();
    this.showDetails();
    if (!this.selected) {
      // There is no such box: the reader stays in the table, and sees why.
      this.marks.chip.scrollIntoView({ block: "nearest" });
      return;
    }
    this.scrollToZoom();
    this.host.scrollIntoView({ block: "nearest" });
    this.graph.focus();
  }

  /** After a jump, show what lies below the box: its many callers would fill the graph. */
  scrollToZoom() {
    const { layout, scroller } = this.graph;
    if (this.zoom && layout && !layout.isUp(this.zoom)) {
      const { row } = layout.placeOf(this.zoom);
      scroller.scrollTop = Math.max(row - ROWS_ABOVE, 0) * FLAME_ROW;
    }
  }

  goToFunction(fn, site, root) {
    const { state } = this;
    if (state.view === "sandwich") {
      state.set({ fn, zoom: "", mark: false, q: "", scope: "all" });
      this.selected = this.chart.down;
      return;
    }
    const waited = site < 0 ? null : this.chart.heaviestOfSite(site);
    const box = waited ?? this.chart.heaviest(fn, root);
    const place = box ? { view: "top", zoom: pathText(box) } : {};
    state.set({ fn, mark: true, q: "", scope: "all", ...place });
    this.selected = box && this.zoom;
  }

  /** Samples that the tables are about; the same object while nothing changed. */
  scope() {
    const box = this.state.scope === "zoom" ? this.zoom : null;
    if (box !== this.scopeBox) {
      this.scopeBox = box;
      this.scopeMask = box ? this.chart.samplesUnder(box) : null;
    }
    this.tables.scopeBox = this.zoom;
    return this.scopeMask ?? null;
  }

  nextMatch(step) {
    const box = this.marks.next(this.chart, step);
    if (!box) {
      return;
    }
    this.selected = box;
    let around = box;
    while (around && around !== this.zoom) {
      around = around.parent;
    }
    if (this.zoom && !around) {
      this.zoomTo(null);
    }
    this.draw();
    this.showDetails();
  }

  /** End what stands out: the search, then the marked function; in the filter, the filter. */
  escape({ target }) {
    const { state, tables, toolbar, traceField } = this;
    if (target === tables.filter) {
      return state.filter ? state.set({ filter: "" }) : target.blur();
    }
    if (target === traceField.input) {
      return target.value ? traceField.end() : target.blur();
    }
    if (target === toolbar.search) {
      // A field keeps the other keys for itself.
      target.blur();
      this.graph.focus();
    }
    if (state.q) {
      state.set({ q: "" });
    } else if (this.marks.shown) {
      this.endMark();
    }
  }

  keys() {
    const { state, toolbar } = this;
    const flip = (name) => () => toolbar.choose(name, !state[name]);
    const view = (value) => () => toolbar.choose("view", value);
    return {
      "/": () => {
        toolbar.search.focus();
        toolbar.search.select();
      },
      n: () => this.nextMatch(1),
      N: () => this.nextMatch(-1),
      t: view("top"),
      b: view("bottom"),
      s: view("sandwich"),
      c: () => toolbar.turn("clock"),
      g: () => toolbar.turn("group"),
      w: () => toolbar.turn("side"),
      f: flip("bridges"),
      m: flip("mine"),
      i: flip("idle"),
      r: () => this.profile.traces.count > 0 && this.traceField.focus(),
      d: () => toolbar.nextTheme(),
      ...tabKeys(this.tables),
      "?": () => this.openHelp(),
      Escape: (event) => this.escape(event),
    };
  }
}

{
  const payload = JSON.parse(document.getElementById("profile").textContent);
  const page = new ReportPage(payload);
  /** For tests and for the curious: what the page is made of. */
  window.greenprofReport = {
    profile: page.profile,
    state: page.state,
    graph: page.graph,
    get chart() {
      return page.chart;
    },
    /** Whether all that a change leads to has been shown. */
    get settled() {
      return page.graph.settled && !page.restPending;
    },
    ready: true,
  };
}
