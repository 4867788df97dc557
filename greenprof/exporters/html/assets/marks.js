"use strict";

/** What stands out in the graph: what a search found, else all boxes of the marked function. */
class Marks {
  /**
   * @param {HTMLElement} chip - above the graph, where it says what stands out
   * @param {() => void} end - called where the reader has the chip's button end it
   */
  constructor(chip, end) {
    this.chip = chip;
    chip.querySelector("button").addEventListener("click", end);
    /** What the search found; null without one. */
    this.found = null;
    /** What stands out, as `isMatch` takes it; null for nothing. */
    this.matches = null;
    this.place = -1;
  }

  get shown() {
    return !this.chip.hidden;
  }

  find(chart, { q, clock, fn, mark }) {
    const { profile } = chart.tree;
    this.found = q.trim() ? chart.search(q.trim()) : null;
    this.matches = this.found;
    this.place = -1;
    if (this.found || !mark || fn < 0) {
      this.say("", "");
      return;
    }
    const name = profile.functionLabel(fn);
    if (!chart.heaviest(fn)) {
      // Nothing would be left in colour.
      this.say(`no ${CLOCK_WORDS[clock]} in`, name);
      return;
    }
    const functions = new Uint8Array(profile.functionCount);
    functions[fn] = 1;
    this.matches = { functions, groups: new Set() };
    this.say("all boxes of", name);
  }

  /** Say what stands out, or why nothing does; nothing for "". */
  say(words, name) {
    this.chip.hidden = !words;
    const said = words ? [`${words} `, isolated(name)] : [];
    this.chip.querySelector("span").replaceChildren(...said);
  }

  /** Return the box so many matches further on, round and round; null where none stands out. */
  next(chart, step) {
    const boxes = this.matches ? matchedBoxes(chart, this.matches) : [];
    if (!boxes.length) {
      return null;
    }
    const start = this.place < 0 && step < 0 ? 0 : this.place;
    this.place = (start + step + boxes.length) % boxes.length;
    return boxes[this.place];
  }
}
