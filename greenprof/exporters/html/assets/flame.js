"use strict";

const FLAME_EASE_MS = 120;
// The part of the window that callers of what was zoomed to may take, if what it called needs room.
const FLAME_LEAD = 0.35;
// Pages are printed at this width and scaled to the paper; no sheet has room for more rows.
const FLAME_PRINT_PX = 1000;
const FLAME_PRINT_MOST_PX = 74 * FLAME_ROW;
const FLAME_PRINT_RATIO = 2;
/**
 * The flame graph: a canvas in `host`, as an icicle with the root on top.
 *
 * Callbacks, all of them optional:
 * - hover(box or null, {x, y}): what the pointer is on, and its clientX and clientY
 * - select(box or null): chosen by click or keyboard
 * - zoom(box): this box fills the width now; the chart's root if all is shown
 *
 * A click's work is done, and `visibleBoxes()` says the result, before the callbacks are called:
 * only the drawing is animated. `settled` says whether the picture has come to rest.
 */
class FlameGraph {
  #callbacks;
  #painter;
  #pending = 0;
  #grown = 0;
  #drawnTop = -1;
  // {from: view, top: css px, start: ms or null before the first frame} while zooming is animated.
  #ease = null;
  #drawn = null;

  constructor(host, callbacks = {}) {
    this.host = host;
    this.#callbacks = callbacks;
    this.chart = null;
    this.zoomed = null;
    this.selected = null;
    this.hovered = null;
    this.matches = null;
    this.dark = false;
    this.printing = false;
    // Where boxes lie once all is settled; null in an empty chart.
    this.layout = null;
    this.view = null;
    this.width = 0;
    this.height = 0;
    this.ratio = 1;
    Object.assign(this, buildFlameElements(host));
    this.#painter = new FlamePainter(this.canvas, this.overlay);
    this.input = new FlameInput(this);
    new ResizeObserver(() => this.resize()).observe(host);
    this.#watchRatio();
  }

  // A window that goes to another screen keeps its size, but not the pixels in it.
  #watchRatio() {
    const same = matchMedia(`(resolution: ${window.devicePixelRatio || 1}dppx)`);
    const change = () => {
      this.#watchRatio();
      this.resize();
    };
    same.addEventListener("change", change, { once: true });
  }

  /** How far the graph is scrolled, in whole css px: between them text would be blurred. */
  get top() {
    return Math.round(this.scroller.scrollTop);
  }

  /** Whether no animation is under way. */
  get settled() {
    return this.#ease === null;
  }

  /**
   * Show a chart. What is left out of the options stays as it is, or is null in another chart.
   *
   * @param chart Chart
   * @param options {zoom: Box that fills the width, null for all of the chart; matches: what
   *   `isMatch` takes, or null; selected: Box or null; dark: bool}
   */
  show(chart, options = {}) {
    const fresh = chart !== this.chart;
    const selectedBefore = this.selected;
    const option = (name, old) => (name in options ? (options[name] ?? null) : fresh ? null : old);
    this.chart = chart;
    this.dark = Boolean(options.dark ?? this.dark);
    this.matches = option("matches", this.matches);
    this.selected = option("selected", this.selected);
    const zoom = this.#zoomable(option("zoom", this.zoomed));
    if (fresh) {
      this.#grown = 0;
      this.#ease = null;
      this.hovered = null;
    }
    if (fresh || zoom !== this.zoomed) {
      this.zoomed = zoom;
      this.#look(FlameView.of(chart, zoom), !fresh);
    }
    if (fresh && this.layout !== null) {
      const middle = (this.layout.pivot + 0.5) * FLAME_ROW;
      this.scroller.scrollTop = this.layout.pivot === 0 ? 0 : middle - this.height / 2;
      this.#makeRoom();
    }
    if (this.selected !== null && (fresh || this.selected !== selectedBefore)) {
      // To zoom is the reader's to decide when it is another chart.
      this.reveal(this.selected, !fresh);
    }
    this.#redrawSettled();
    this.#say();
    // Another box may be under the pointer, which did not move.
    this.input.refresh();
  }

  // The sandwich's two roots are one box on screen.
  #zoomable(box) {
    return box === null || box.weight <= 0 || box === this.chart.up ? this.chart.down : box;
  }

  #look(view, animated) {
    const old = this.#ease === null ? (this.layout?.view ?? null) : this.#drawn.view;
    const topBefore = this.#ease === null ? this.top : this.#drawnTop;
    const pivot = this.layout?.chart === this.chart ? this.layout.pivot : null;
    const still = this.printing || matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.view = view;
    this.#layOut();
    this.#ease = null;
    if (pivot === null || this.layout === null) {
      return;
    }
    // What was clicked stays where it is when there are more or fewer rows above it.
    const moved = (this.layout.pivot - pivot) * FLAME_ROW;
    this.scroller.scrollTop += moved;
    if (animated) {
      this.#makeRoom();
      if (!still) {
        this.#ease = { from: old, top: topBefore + moved, start: null };
      }
    }
  }

  /** Measure the host again, and lay out and draw anew if it has another size. */
  resize() {
    if (this.chart === null || this.printing) {
      return;
    }
    const { clientWidth, clientHeight } = this.scroller;
    const ratio = window.devicePixelRatio || 1;
    if (clientWidth !== this.width || clientHeight !== this.height || ratio !== this.ratio) {
      this.#ease = null;
      this.#grown = 0;
      this.#layOut();
      this.redraw();
    }
  }

  #layOut() {
    const empty = !(this.chart.whole > 0 && this.chart.down.weight > 0);
    this.scroller.hidden = empty;
    this.layout = null;
    if (empty) {
      return;
    }
    // Twice at most: a scroll bar that comes or goes changes the width.
    for (let round = 0; round < 2; round += 1) {
      const width = this.printing ? FLAME_PRINT_PX : this.scroller.clientWidth;
      if (this.layout !== null && width === this.layout.width) {
        break;
      }
      this.layout = new FlameLayout(this.view, Math.max(width, 1));
      // The graph grows while it is looked at, but does not shrink: what lies below it on the page
      // would jump at each zoom.
      this.spacer.style.height = `${Math.max(this.#grown, this.layout.height)}px`;
    }
    this.#grown = Math.max(this.#grown, this.scroller.clientHeight);
    this.width = this.layout.width;
    this.height = this.printing
      ? Math.min(this.layout.height, FLAME_PRINT_MOST_PX)
      : this.scroller.clientHeight;
  }

  // Scroll so that what was zoomed to is in view, and most of the window free for what it called.
  #makeRoom() {
    const { layout, height, scroller, top } = this;
    const edge = layout.placeOf(this.zoomed).row * FLAME_ROW;
    const isUp = layout.isUp(this.zoomed);
    const hidden = isUp ? top > 0 : layout.height - top > height;
    const most = edge - height * FLAME_LEAD;
    const least = edge - height * (1 - FLAME_LEAD);
    if (edge < top) {
      scroller.scrollTop = edge - FLAME_ROW;
    } else if (hidden && !isUp && top < most) {
      scroller.scrollTop = most;
    } else if (hidden && isUp && top > least) {
      scroller.scrollTop = least;
    }
  }

  // An animation draws from the next frame on: now it would still be the old picture.
  #redrawSettled() {
    return this.settled ? this.redraw() : this.redrawSoon();
  }

  /** Draw now; `resize` and `show` do so themselves. */
  redraw() {
    cancelAnimationFrame(this.#pending);
    this.#pending = 0;
    if (this.layout === null || this.width === 0) {
      return;
    }
    this.ratio = window.devicePixelRatio || 1;
    this.#painter.resize(this.width, this.height, this.printing ? FLAME_PRINT_RATIO : this.ratio);
    for (const { style } of [this.canvas, this.overlay, this.stage]) {
      style.width = this.printing ? "100%" : `${this.width}px`;
      style.height = this.printing ? "auto" : `${this.height}px`;
    }
    this.#drawnTop = this.printing ? 0 : this.top;
    this.#drawn = this.#eased();
    const dark = this.dark && !this.printing;
    const tones = tonesOf(this.zoomed, this.matches);
    this.#painter.draw(this.#drawn, this.#drawnTop, dark, tones);
    this.#outline();
    if (this.#ease !== null) {
      this.#pending = requestAnimationFrame(() => this.redraw());
    }
  }

  // The layout to draw now; sets where its top is while it moves there.
  #eased() {
    if (this.#ease === null) {
      return this.layout;
    }
    // From the first frame on: making new boxes may have taken a while.
    this.#ease.start ??= performance.now();
    const part = (performance.now() - this.#ease.start) / FLAME_EASE_MS;
    if (part >= 1) {
      this.#ease = null;
      return this.layout;
    }
    const eased = 1 - (1 - part) ** 3;
    this.#drawnTop = Math.round(this.#ease.top + (this.#drawnTop - this.#ease.top) * eased);
    return new FlameLayout(this.#ease.from.towards(this.view, eased), this.width);
  }

  #outline() {
    const dark = this.dark && !this.printing;
    const shown = this.printing ? [null, null] : [this.hovered, this.selected];
    this.#painter.outline(this.#drawn, this.#drawnTop, dark, ...shown);
  }

  /** Let a box fill the width, and say so. */
  zoomTo(box) {
    const target = this.#zoomable(box);
    const view = FlameView.of(this.chart, target);
    if (target !== this.zoomed || !view.equals(this.view)) {
      this.zoomed = target;
      this.#look(view, true);
      this.#redrawSettled();
      this.#callbacks.zoom?.(target);
    }
  }

  /** Zoom out one level: to what was zoomed to, then to what it is in. Return whether it could. */
  zoomOut() {
    const moved = !this.view.equals(FlameView.of(this.chart, this.zoomed));
    const target = moved ? this.zoomed : this.zoomed.parent;
    if (target !== null) {
      this.zoomTo(target);
    }
    return target !== null;
  }

  /** Zoom to all of the chart. */
  zoomWhole() {
    this.zoomTo(this.chart.down);
  }

  /** Zoom by a factor (< 1: in) and keep what is at `x` css px there; `up` is the half. */
  zoomAround(factor, x, up = false) {
    return this.#move(this.view.scaled(factor, x / this.width, up));
  }

  /** Move the view sideways by css px (> 0: to the right). Return whether there was room to. */
  panBy(pixels, up = false) {
    return this.#move(this.view.shifted(pixels / this.width, up));
  }

  #move(view) {
    if (view.equals(this.view)) {
      return false;
    }
    this.#look(view, false);
    this.redraw();
    return true;
  }

  /** Choose a box, or none, and say so. */
  select(box) {
    if (box !== null) {
      // First, because who hears of a zoom may show the graph with what was chosen before.
      this.reveal(box);
    }
    this.selected = box;
    this.#say();
    this.#redrawSettled();
    this.#callbacks.select?.(box);
  }

  // Say what is chosen, with the figures of the chart as it is; the same is not said again.
  #say() {
    const said = this.selected === null ? "" : flameSentence(this.selected, this.chart);
    if (this.live.textContent !== said) {
      this.live.textContent = said;
    }
  }

  /** Scroll a box into view; `zooming`: and zoom to one that is to the side or too narrow. */
  reveal(box, zooming = true) {
    if (this.layout === null) {
      return;
    }
    const { x, width } = this.layout.placeOf(box);
    if (zooming && (x >= this.width || x + width <= 0 || width < FLAME_LEAST_PX)) {
      const wide = box.parent && (box.weight / box.parent.weight) * this.width >= FLAME_LEAST_PX;
      this.zoomTo(wide ? box.parent : box);
    }
    const top = this.layout.placeOf(box).row * FLAME_ROW;
    const { scroller, height } = this;
    // A row more than the box's own shows that the graph goes on.
    const highest = top + 2 * FLAME_ROW - height;
    const lowest = Math.max(top - FLAME_ROW, 0);
    if (scroller.scrollTop > lowest) {
      scroller.scrollTop = lowest;
    } else if (scroller.scrollTop < highest) {
      scroller.scrollTop = highest;
    }
  }

  /** Return the box at a point of the canvas in css px, or null. */
  boxAt(x, y) {
    return this.layout?.boxAt(x, y + this.top) ?? null;
  }

  /** Return whether a point of the canvas is in the half that grows upwards. */
  isUpAt(y) {
    return this.layout !== null && y + this.top < this.layout.pivot * FLAME_ROW;
  }

  /** Outline the box under the pointer, and say so. */
  hover(box, point) {
    if (box !== this.hovered) {
      this.hovered = box;
      if (this.layout !== null && this.#pending === 0 && this.#drawn !== null) {
        this.#outline();
      }
    }
    this.#callbacks.hover?.(box, point);
  }

  /** Draw before the next frame, once however often it is asked for. */
  redrawSoon() {
    if (this.#pending === 0) {
      this.#pending = requestAnimationFrame(() => this.redraw());
    }
  }

  /** Give the graph the keyboard. */
  focus() {
    this.canvas.focus({ preventScroll: true });
  }

  /** Draw for paper (light, all rows, no outline), or for the screen again. */
  print(on) {
    if (this.chart === null || on === this.printing) {
      return;
    }
    this.printing = on;
    this.#ease = null;
    Object.assign(this.scroller.style, {
      overflow: on ? "visible" : "hidden auto",
      maxHeight: on ? "none" : FLAME_MAX_HEIGHT,
    });
    this.stage.style.position = on ? "static" : "sticky";
    this.#layOut();
    if (on) {
      this.spacer.style.height = "auto";
    }
    this.redraw();
  }

  /** Return what is to be seen once all is settled, as `FlameLayout.boxesWithin` says. */
  visibleBoxes() {
    return this.layout === null ? [] : this.layout.boxesWithin(this.top, this.height);
  }
}
