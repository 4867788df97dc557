"use strict";

/**
 * A table of many rows: sorts by a click on a column's head, shows a first part of its rows and a
 * button for more, so that 10,000 functions cost as much as the 60 that are looked at.
 */

const FIRST_ROWS = 60;
const MORE_ROWS = 240;
const LONGEST_TITLE = 1000;

/**
 * Make an element: `attributes` are set as such, `parts` are elements or texts.
 * Texts of the profiled program reach the page through here or through textContent only.
 * @returns {HTMLElement}
 */
function element(name, attributes = {}, ...parts) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) {
      made.setAttribute(key, "");
    } else if (value !== false && value !== undefined && value !== "") {
      made.setAttribute(key, value);
    }
  }
  made.append(...parts.filter((part) => part !== null && part !== ""));
  return made;
}

/** The text of a program, kept from reordering what is beside it, with its whole as a tooltip. */
function isolated(text, className = "", title = text) {
  return element("bdi", { class: className, title: title.slice(0, LONGEST_TITLE) }, text);
}

/**
 * Columns: {id, label, band, hint, type: "text" | "time" | "count", value(row), text(row),
 * title(row), bar(row), tone(row)}. `tone` is a class of the cell; `text` is what is shown of a number that is no amount;
 * `keepEnd` cuts a long text at its start.
 * `band` is the head above neighbouring columns; `bar(row)` a share from 0 to 1 drawn in the cell.
 */
class DataTable {
  /**
   * @param {HTMLElement} host gets the table
   * @param {{columns: object[], label: string, empty: string, open: function, order: function}}
   *   options what it shows; open(row) is called for a row that was clicked, order(column id,
   *   descending) when a head was
   */
  constructor(host, options) {
    this.options = options;
    this.rows = [];
    this.limit = FIRST_ROWS;
    this.head = element("thead");
    this.body = element("tbody");
    const columns = options.columns.map((column) => element("col", { class: `c-${column.id}` }));
    this.table = element(
      "table", { "aria-label": options.label }, element("colgroup", {}, ...columns),
      this.head, this.body,
    );
    this.more = element("button", { type: "button", class: "more", hidden: true });
    this.more.addEventListener("click", () => this.showMore());
    this.count = element("p", { class: "rows", role: "status" });
    const scroller = element("div", { class: "scroller" }, this.table);
    host.replaceChildren(scroller, element("div", { class: "foot" }, this.count, this.more));
    this.makeHead();
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.body.addEventListener("keydown", (event) => this.keyed(event));
  }

  /**
   * Show rows. `sort` is {column, descending}, or {keys(row), note} for an order that is no
   * column's; `filter` a text that a row has to hold somewhere; `dim(row)` and `chosen(row)` say
   * how a row looks; columns of `clock` stand out.
   */
  show(rows, { sort, filter = "", dim = () => false, chosen = () => false, clock = "" }) {
    const same = rows === this.rows && filter === this.filter && this.isSort(sort);
    this.rows = rows;
    this.filter = filter;
    this.sort = sort;
    this.look = { dim, chosen };
    this.shown = this.sorted(this.filtered());
    if (!same) {
      this.limit = FIRST_ROWS;
    }
    this.markHead(clock);
    this.fill();
  }

  isSort(sort) {
    return this.sort?.column === sort.column && this.sort?.descending === sort.descending
      && this.sort?.note === sort.note;
  }

  makeHead() {
    const { columns, order } = this.options;
    const bands = element("tr", { class: "bands" });
    const names = element("tr");
    let band = null;
    for (const column of columns) {
      if (band !== null && column.band && band.textContent === column.band) {
        band.colSpan += 1;
      } else {
        const scope = column.band ? "colgroup" : undefined;
        const name = column.band ? undefined : `c-${column.id}`;
        band = element(column.band ? "th" : "td", { scope, class: name }, column.band ?? "");
        bands.append(band);
      }
      band.dataset.of = column.clock ?? "";
      const said = column.band ? `${column.band}, ${column.label}` : column.label;
      const button = element("button", { type: "button", title: column.hint, "aria-label": said });
      button.append(column.label);
      button.addEventListener("click", () => {
        const again = this.sort.column === column.id;
        order(column.id, again ? !this.sort.descending : column.type !== "text");
      });
      const className = `${column.type} c-${column.id}`;
      const cell = element("th", { scope: "col", class: className }, button);
      cell.dataset.column = column.id;
      cell.dataset.of = column.clock ?? "";
      names.append(cell);
    }
    this.head.replaceChildren(...(columns.some((column) => column.band) ? [bands] : []), names);
  }

  markHead(clock) {
    for (const cell of this.head.querySelectorAll("th[data-column]")) {
      const sorted = cell.dataset.column === this.sort.column;
      const direction = this.sort.descending ? "descending" : "ascending";
      cell.setAttribute("aria-sort", sorted ? direction : "none");
    }
    for (const cell of this.head.querySelectorAll("[data-of]")) {
      cell.classList.toggle("current", clock !== "" && cell.dataset.of === clock);
    }
    this.clock = clock;
  }

  filtered() {
    const wanted = this.filter.trim().toLowerCase();
    if (!wanted) {
      return this.rows;
    }
    const texts = this.options.columns.filter((column) => column.type === "text");
    return this.rows.filter((row) =>
      texts.some((column) =>
        `${column.value(row)}\n${column.title?.(row) ?? ""}`.toLowerCase().includes(wanted)));
  }

  sorted(rows) {
    const { sort } = this;
    const column = this.options.columns.find((one) => one.id === sort.column);
    if (!column && !sort.keys) {
      return rows;
    }
    const text = (row) => column.value(row).toLowerCase();
    const keys = sort.keys ?? ((row) => [column.type === "text" ? text(row) : column.value(row)]);
    const way = sort.descending ? -1 : 1;
    // Keys are made once: ten thousand rows are compared more than a hundred thousand times.
    const keyed = rows.map((row, place) => ({ row, place, keys: keys(row) }));
    keyed.sort((one, other) => {
      for (let at = 0; at < one.keys.length; at += 1) {
        if (one.keys[at] !== other.keys[at]) {
          return one.keys[at] < other.keys[at] ? -way : way;
        }
      }
      // Rows that are alike stay in the order that they came in, whichever way the others go.
      return one.place - other.place;
    });
    return keyed.map(({ row }) => row);
  }

  showMore() {
    const first = this.limit;
    this.limit += MORE_ROWS;
    this.fill();
    this.focusRow(this.body.rows[first]);
  }

  fill() {
    const focused = this.body.contains(document.activeElement);
    const shown = this.shown.slice(0, this.limit);
    this.body.replaceChildren(...shown.map((row, place) => this.makeRow(row, place)));
    const columns = this.options.columns.length;
    if (!shown.length) {
      const filtered = this.filter && this.rows.length;
      const text = filtered ? "no row holds this text" : this.options.empty();
      this.body.append(element("tr", { class: "none" }, element("td", { colspan: columns }, text)));
    }
    const left = this.shown.length - shown.length;
    this.more.hidden = left <= 0;
    this.more.textContent = `show ${formatCount(Math.min(left, MORE_ROWS))} more`;
    const all = formatCount(this.rows.length);
    const some = formatCount(this.shown.length);
    const count = some === all ? plural(this.rows.length, "row") : `${some} of ${all} rows`;
    this.count.textContent = this.sort.note ? `${count}, ${this.sort.note}` : count;
    if (focused) {
      this.focusRow(this.body.rows[0]);
    }
  }

  makeRow(row, place) {
    const line = element("tr", { tabindex: place ? "-1" : "0" });
    line.dataset.row = String(place);
    line.classList.toggle("dim", this.look.dim(row));
    if (this.look.chosen(row)) {
      line.setAttribute("aria-current", "true");
    }
    for (const column of this.options.columns) {
      line.append(this.makeCell(column, row));
    }
    return line;
  }

  makeCell(column, row) {
    const value = column.value(row);
    const cell = element("td", { class: `${column.type} c-${column.id}` });
    if (column.type === "text") {
      const text = isolated(value, "", column.title?.(row) ?? value);
      cell.append(column.keepEnd ? element("span", { class: "keep-end" }, text) : text);
    } else {
      const format = column.type === "time" ? formatDuration : formatCount;
      cell.textContent = column.text?.(row) ?? (value ? format(value) : "-");
      cell.classList.toggle("zero", !value);
      if (column.tone) {
        cell.classList.add(column.tone(row));
      }
    }
    if (column.clock && column.clock === this.clock) {
      cell.classList.add("current");
    }
    const share = column.bar?.(row);
    if (share) {
      cell.classList.add("bar");
      cell.style.setProperty("--share", `${Math.min(100 * share, 100).toFixed(1)}%`);
      cell.title = formatPercent(share, 1);
    }
    return cell;
  }

  rowAt(line) {
    return line?.dataset.row === undefined ? undefined : this.shown[Number(line.dataset.row)];
  }

  clicked(event) {
    const line = event.target.closest("tr");
    const row = this.rowAt(line);
    // A reader who marks text to copy it does not want to be sent elsewhere.
    if (row === undefined || String(getSelection())) {
      return;
    }
    this.focusRow(line);
    this.options.open(row);
  }

  keyed(event) {
    const line = event.target.closest("tr");
    const row = this.rowAt(line);
    if (row === undefined || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const lines = this.body.rows;
    const targets = {
      ArrowDown: line.nextElementSibling,
      ArrowUp: line.previousElementSibling,
      Home: lines[0],
      End: lines[lines.length - 1],
    };
    if (event.key === "Enter") {
      this.options.open(row);
    } else if (event.key in targets) {
      this.focusRow(targets[event.key]);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** One row is a stop of the Tab key; arrows go on from there. */
  focusRow(line) {
    if (!line || line.dataset.row === undefined) {
      return;
    }
    this.body.querySelector("tr[tabindex='0']")?.setAttribute("tabindex", "-1");
    line.setAttribute("tabindex", "0");
    line.focus();
  }
}
