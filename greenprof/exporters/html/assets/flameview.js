"use strict";

// The least part of a chart that may fill the width: less would be beyond the digits of a number.
const FLAME_LEAST_SHARE = 1e-9;

/**
 * What part of a chart is looked at: a range {from, to} of ns for the half that grows downwards,
 * and one for the half that grows upwards in the sandwich, so that zooming into the callers leaves
 * the callees whole. Never changed: each move makes a new one.
 */
class FlameView {
  constructor(chart, down, up) {
    this.chart = chart;
    this.down = down;
    this.up = up;
  }

  /** The view in which a box fills the width, and the half that it is not in is whole. */
  static of(chart, box) {
    const whole = FlameView.#whole;
    const isUp = box.root === chart.up;
    const range = { from: box.start, to: box.start + box.weight };
    return new FlameView(chart, isUp ? whole(chart.down) : range, isUp ? range : whole(chart.up));
  }

  static #whole(root) {
    return root ? { from: root.start, to: root.start + root.weight } : { from: 0, to: 1 };
  }

  /** Return whether this shows the same as another view. */
  equals(other) {
    const same = (one, two) => one.from === two.from && one.to === two.to;
    return same(this.down, other.down) && same(this.up, other.up);
  }

  /** Return the view `share` (0 to 1) of the way from this one to another. */
  towards(other, share) {
    const mix = (one, two) => ({
      from: one.from + (two.from - one.from) * share,
      to: one.to + (two.to - one.to) * share,
    });
    return new FlameView(this.chart, mix(this.down, other.down), mix(this.up, other.up));
  }

  /** Zoom one half by a factor (< 1: in); what is at the part `at` (0 to 1) of the width stays. */
  scaled(factor, at, isUp) {
    const { from, to } = isUp ? this.up : this.down;
    const whole = FlameView.#whole(isUp ? this.chart.up : this.chart.down);
    const most = whole.to - whole.from;
    const length = Math.min(Math.max((to - from) * factor, most * FLAME_LEAST_SHARE), most);
    return this.#moved(from + (to - from - length) * at, length, whole, isUp);
  }

  /** Move one half by a part of the width, to the right if positive. */
  shifted(part, isUp) {
    const { from, to } = isUp ? this.up : this.down;
    const whole = FlameView.#whole(isUp ? this.chart.up : this.chart.down);
    return this.#moved(from + (to - from) * part, to - from, whole, isUp);
  }

  // No view goes beyond the ends of the chart.
  #moved(start, length, whole, isUp) {
    const from = Math.max(Math.min(start, whole.to - length), whole.from);
    const range = { from, to: Math.min(from + length, whole.to) };
    return new FlameView(this.chart, isUp ? this.down : range, isUp ? range : this.up);
  }
}
