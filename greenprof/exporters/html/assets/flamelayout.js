"use strict";

// Height of a row in css px, the gap of 1 px below its boxes included.
const FLAME_ROW = 19;
// Boxes narrower than this are not drawn, and what is under them is not even looked at.
const FLAME_LEAST_PX = 0.4;

/**
 * Where the boxes of a chart lie, for a view and a width in css px.
 *
 * The box that both halves of a sandwich start from is drawn once, in row `pivot`.
 *
 * `rows` from top to bottom are {entries, rests}: entries [{box, x, width}] from left to right,
 * rests [{x, width}] in place of boxes that are too narrow to be drawn.
 */
class FlameLayout {
  constructor(view, width) {
    const { chart } = view;
    this.chart = chart;
    this.view = view;
    this.width = width;
    const up = chart.up ? this.#rowsOf(chart.up, true).slice(1).reverse() : [];
    this.pivot = up.length;
    this.rows = up.concat(this.#rowsOf(chart.down, false));
  }

  get height() {
    return this.rows.length * FLAME_ROW;
  }

  // Level by level and not by recursion: stacks may be thousands of levels deep.
  #rowsOf(root, up) {
    const { from, scale } = this.#axis(up);
    const rows = [];
    let entries = [{ box: root, x: (root.start - from) * scale, width: root.weight * scale }];
    let rests = [];
    while (entries.length > 0 || rests.length > 0) {
      rows.push({ entries, rests });
      const below = [];
      rests = [];
      for (const { box } of entries) {
        this.#addChildren(box, from, scale, below, rests);
      }
      entries = below;
    }
    return rows;
  }

  #addChildren(parent, from, scale, entries, rests) {
    const children = parent.children;
    for (const box of children) {
      const x = (box.start - from) * scale;
      const width = box.weight * scale;
      if (x >= this.width) {
        return;
      }
      if (width < FLAME_LEAST_PX) {
        // The heaviest lies leftmost, so that all further children are as narrow.
        const last = children[children.length - 1];
        const end = (last.start + last.weight - from) * scale;
        if (end > 0 && end - x >= 1) {
          rests.push({ x, width: end - x });
        }
        return;
      }
      if (x + width > 0) {
        entries.push({ box, x, width });
      }
    }
  }

  #axis(up) {
    const { from, to } = up ? this.view.up : this.view.down;
    return { from, scale: this.width / (to - from) };
  }

  /** Return whether a box belongs to the half that grows upwards. */
  isUp(box) {
    return box.root === this.chart.up;
  }

  /** Return {x, width, row} of any box of the chart, drawn or not. */
  placeOf(box) {
    const up = this.isUp(box);
    const { from, scale } = this.#axis(up);
    return {
      x: (box.start - from) * scale,
      width: box.weight * scale,
      row: this.pivot + (up ? -box.depth : box.depth),
    };
  }

  /** Return a box's entry and its neighbours in the row: {left, entry, right}, or null for each. */
  around(box) {
    const entries = this.rows[this.placeOf(box).row]?.entries ?? [];
    const at = entries.findIndex((entry) => entry.box === box);
    return {
      left: entries[at - 1] ?? null,
      entry: entries[at] ?? null,
      right: at < 0 ? null : (entries[at + 1] ?? null),
    };
  }

  /** Return the child of a box that takes most of the window, or null. */
  widestChild(box) {
    return this.#widestIn(this.rows[this.placeOf(box).row + (this.isUp(box) ? -1 : 1)], box);
  }

  /** Return the widest caller drawn above the box that the sandwich is about, or null. */
  widestCaller() {
    return this.#widestIn(this.rows[this.pivot - 1], this.chart.up);
  }

  #widestIn(row, parent) {
    let widest = null;
    let most = 0;
    for (const { box, x, width } of row?.entries ?? []) {
      const seen = Math.min(x + width, this.width) - Math.max(x, 0);
      if (box.parent === parent && seen > most) {
        widest = box;
        most = seen;
      }
    }
    return widest;
  }

  /** Return the box at a point, y from the top of the first row, or null. */
  boxAt(x, y) {
    const entries = this.rows[Math.floor(y / FLAME_ROW)]?.entries ?? [];
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (entries[middle].x <= x) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const entry = entries[low - 1];
    return entry && x < entry.x + entry.width ? entry.box : null;
  }

  /**
   * Return the boxes in a window that begins at `top`, with y relative to it, from top to bottom
   * and left to right: [{label, category, x, y, width, height, crosses, depth, box}].
   */
  boxesWithin(top, height) {
    const seen = [];
    for (const [index, { entries }] of this.rows.entries()) {
      const y = index * FLAME_ROW - top;
      if (y + FLAME_ROW <= 0 || y >= height) {
        continue;
      }
      for (const { box, x, width } of entries) {
        const left = Math.max(x, 0);
        const { label, category, crosses } = box.info;
        seen.push({
          ...{ label, category, crosses, depth: box.depth, box },
          ...{ x: left, y, width: Math.min(x + width, this.width) - left, height: FLAME_ROW - 1 },
        });
      }
    }
    return seen;
  }
}
