"use strict";

/** The tabs, what the tables are about, their filter, and the table that is chosen. */
class TablePanel {
  /**
   * @param {ReportProfile} profile
   * @param {PageState} state
   * @param {{open: function(tab, row)}} callbacks a row was chosen
   */
  constructor(profile, state, { open }) {
    this.profile = profile;
    this.state = state;
    /** The box that the graph is zoomed to, null for none. */
    this.scopeBox = null;
    this.panel = document.getElementById("tables");
    this.paper = document.getElementById("paper");
    this.note = document.getElementById("scope");
    // One button that stays, for the keyboard's focus not to be lost when it is pressed.
    this.within = element("button", { type: "button", hidden: true });
    this.within.addEventListener("click", () =>
      state.set({ scope: state.scope === "zoom" ? "all" : "zoom" }));
    this.note.replaceChildren(this.within);
    this.filter = document.getElementById("filter");
    const there = tabsOf(profile);
    this.tabs = [...document.querySelectorAll("#tabs [data-tab]")]
      .filter((tab) => there.has(tab.dataset.tab) || tab.remove());
    // Beside what was counted it has to be told what was not.
    if (there.has("counted") && there.has("awaits")) {
      document.getElementById("tab-awaits").textContent = "Waits, sampled";
    }
    this.tables = tablesFor(this.panel, profile, {
      open, order: (sort) => state.set({ sort }),
    });
    this.tabs.forEach((tab, place) => {
      tab.title = `${tab.textContent} (${place + 1})`;
      tab.addEventListener("click", () => this.choose(tab.dataset.tab));
      tab.addEventListener("keydown", (event) => this.keyed(event, place));
    });
    this.filter.addEventListener("input", () => state.set({ filter: this.filter.value }));
  }

  choose(tab) {
    if (tab !== this.state.tab) {
      this.state.set({ tab, sort: "", filter: "" });
    }
  }

  /** Arrows go from tab to tab, as in every list of tabs. */
  keyed(event, place) {
    const count = this.tabs.length;
    const targets = {
      ArrowRight: (place + 1) % count, ArrowLeft: (place + count - 1) % count,
      Home: 0, End: count - 1,
    };
    if (event.key in targets) {
      const tab = this.tabs[targets[event.key]];
      this.choose(tab.dataset.tab);
      tab.focus();
      event.preventDefault();
    }
  }

  show(scope) {
    const { state } = this;
    if (!this.tabs.some((tab) => tab.dataset.tab === state.tab)) {
      // A link that was made of another recording.
      state.set({ tab: "functions", sort: "", filter: "" });
      return;
    }
    this.box = state.scope === "zoom" ? this.scopeBox : null;
    for (const tab of this.tabs) {
      const chosen = tab.dataset.tab === state.tab;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${state.tab}`);
    if (this.filter.value !== state.filter) {
      this.filter.value = state.filter;
    }
    this.showNote();
    this.tables.show(state, scope, this.box);
  }

  /** Say which part of the profile the numbers are of. */
  showNote() {
    const { state, profile, scopeBox } = this;
    const parts = [];
    if (state.tab === "lines" && state.fn >= 0) {
      parts.push(element("span", {}, "of ", isolated(profile.functionLabel(state.fn))));
    }
    const counted = COUNTED_TABS.includes(state.tab);
    const whole = counted && (state.trace !== "" || (scopeBox && !narrows(scopeBox)));
    if (whole) {
      parts.push(element("span", {}, "of the whole recording"));
    } else if (scopeBox) {
      const inside = state.scope === "zoom";
      this.within.textContent = inside ? "show all" : "only within it";
      parts.push(element("span", { class: "within" },
        inside ? "within " : "everything, not only ", isolated(scopeBox.info.label)));
    }
    this.within.hidden = !scopeBox || whole;
    while (this.note.firstChild !== this.within) {
      this.note.firstChild.remove();
    }
    this.within.before(...parts);
  }

  /** For paper, which has no tabs: one table after the other; nothing for the screen. */
  print(on) {
    this.paper.hidden = !on;
    this.paper.replaceChildren();
    for (const tab of on ? this.tabs : []) {
      const name = tab.dataset.tab;
      if (name !== "lines" || this.state.tab === name) {
        const host = element("div");
        this.paper.append(
          element("section", { class: "on-paper" }, element("h2", {}, tab.textContent), host));
        const tables = tablesFor(host, this.profile, {});
        const state = { ...this.state, tab: name, sort: "", filter: "" };
        tables.show(state, this.tables.scope, this.box);
      }
    }
  }
}

/** What the digits do: each opens a tab, counted from the left. */
function tabKeys(panel) {
  return Object.fromEntries(panel.tabs.map(({ dataset }, place) =>
    [place + 1, () => panel.choose(dataset.tab)]));
}
