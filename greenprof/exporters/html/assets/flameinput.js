"use strict";

// A press that moves further than this is a drag, not a click.
const FLAME_DRAG_PX = 4;
// How much of the range remains at a press of +, and how far shift+arrow moves, in widths.
const FLAME_ZOOM_STEP = 0.6;
const FLAME_PAN_STEP = 0.12;
// What browsers make of a line when a wheel counts in lines.
const FLAME_WHEEL_LINE_PX = 16;

/** Mouse, wheel, touch and keyboard of a FlameGraph. */
class FlameInput {
  #graph;
  // {id, x, y, up, moved, scroll, touch} while a button or finger is down.
  #press = null;
  // Where the pointer was last, in client px: scrolling moves other boxes under it.
  #pointer = null;

  constructor(graph) {
    this.#graph = graph;
    const { canvas, scroller } = graph;
    const listen = (type, handle) => canvas.addEventListener(type, handle.bind(this));
    listen("pointerdown", this.#onDown);
    listen("pointermove", this.#onMove);
    listen("pointerup", this.#onUp);
    listen("pointercancel", this.#onCancel);
    listen("pointerleave", this.#onLeave);
    listen("keydown", this.#onKey);
    // A listener is passive unless it says otherwise, and could not keep the page from zooming.
    canvas.addEventListener("wheel", this.#onWheel.bind(this), { passive: false });
    scroller.addEventListener("scroll", () => {
      graph.redrawSoon();
      this.refresh();
    });
  }

  #local(event) {
    const bounds = this.#graph.canvas.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  }

  #boxAt(event) {
    const { x, y } = this.#local(event);
    return this.#graph.boxAt(x, y);
  }

  #hover(event) {
    this.#pointer = { clientX: event.clientX, clientY: event.clientY };
    const box = this.#boxAt(event);
    this.#graph.canvas.style.cursor = box === null ? "default" : "pointer";
    this.#graph.hover(box, { x: event.clientX, y: event.clientY });
  }

  /** Find anew what the pointer is on, after the graph moved under it. */
  refresh() {
    if (this.#pointer !== null && this.#press === null) {
      this.#hover(this.#pointer);
    }
  }

  #leave() {
    this.#pointer = null;
    this.#graph.hover(null, { x: 0, y: 0 });
  }

  #onDown(event) {
    if (event.button !== 0 || !event.isPrimary || this.#graph.layout === null) {
      return;
    }
    const touch = event.pointerType === "touch";
    this.#press = {
      id: event.pointerId,
      x: event.clientX,
      y: event.clientY,
      up: this.#graph.isUpAt(this.#local(event).y),
      moved: false,
      touch,
    };
    if (touch) {
      this.#leave();
    }
  }

  #onMove(event) {
    const press = this.#press;
    if (press === null || press.id !== event.pointerId) {
      if (event.pointerType !== "touch") {
        this.#hover(event);
      }
      return;
    }
    const { clientX: x, clientY: y } = event;
    if (!press.moved) {
      if (Math.abs(x - press.x) < FLAME_DRAG_PX && Math.abs(y - press.y) < FLAME_DRAG_PX) {
        return;
      }
      press.moved = true;
      // Only now: what turns out to be a click needs no capture.
      this.#graph.canvas.setPointerCapture(event.pointerId);
      this.#graph.canvas.style.cursor = "grabbing";
      this.#leave();
    }
    this.#graph.panBy(press.x - x, press.up);
    if (!press.touch) {
      this.#graph.scroller.scrollTop += press.y - y;
    }
    press.x = x;
    press.y = y;
  }

  #onUp(event) {
    const press = this.#press;
    this.#press = null;
    if (press === null || press.id !== event.pointerId) {
      return;
    }
    this.#graph.canvas.style.cursor = "default";
    if (!press.moved) {
      this.#click(this.#boxAt(event), press.touch);
    }
    if (!press.touch) {
      this.#hover(event);
    }
  }

  #click(box, touch) {
    const graph = this.#graph;
    // A finger has no hover: its first tap shows the figures, the second one zooms.
    if (box !== null && (!touch || box === graph.selected)) {
      graph.zoomTo(box);
    }
    graph.select(box);
  }

  #onCancel() {
    this.#press = null;
    this.#leave();
  }

  #onLeave() {
    if (this.#press === null) {
      this.#leave();
    }
  }

  #onWheel(event) {
    const graph = this.#graph;
    if (graph.layout === null) {
      return;
    }
    const unit = [1, FLAME_WHEEL_LINE_PX, graph.height][event.deltaMode] ?? 1;
    const { x, y } = this.#local(event);
    const up = graph.isUpAt(y);
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      // A mouse's notch is 100 to 120 px; fingers on a pad send many small steps.
      const step = Math.min(Math.max(event.deltaY * unit, -120), 120);
      graph.zoomAround(Math.exp(step / 240), x, up);
    } else {
      const sideways = event.shiftKey && event.deltaX === 0 ? event.deltaY : event.deltaX;
      const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      // At the end of the graph the page gets the wheel, as everywhere else.
      if (!isSideways || !graph.panBy(sideways * unit, up)) {
        return;
      }
      event.preventDefault();
    }
    this.refresh();
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.#graph.layout === null) {
      return;
    }
    if (this.#pressKey(event.key, event.shiftKey)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /** Do what a key stands for; return whether it stands for anything. */
  #pressKey(key, shift) {
    const graph = this.#graph;
    const at = graph.selected ?? graph.zoomed;
    const up = graph.layout.isUp(at);
    switch (key) {
      case "ArrowLeft":
      case "ArrowRight":
        if (shift) {
          graph.panBy((key === "ArrowLeft" ? -1 : 1) * FLAME_PAN_STEP * graph.width, up);
        } else {
          this.#moveSideways(key === "ArrowLeft" ? "left" : "right");
        }
        return true;
      case "ArrowDown":
      case "ArrowUp":
        this.#moveAlong(key === "ArrowUp");
        return true;
      case "Enter":
        if (graph.selected === null) {
          graph.select(graph.zoomed);
        } else {
          graph.zoomTo(at);
          graph.reveal(at);
        }
        return true;
      case "+":
      case "=":
        graph.zoomAround(FLAME_ZOOM_STEP, this.#centre(at), up);
        return true;
      case "-":
      case "_":
        graph.zoomAround(1 / FLAME_ZOOM_STEP, this.#centre(at), up);
        return true;
      case "Home":
        graph.zoomWhole();
        return true;
      case "Backspace":
      case "Escape":
        return graph.zoomOut();
      default:
        return false;
    }
  }

  // The middle of what is seen of a box, or of the window if it is not to be seen.
  #centre(box) {
    const { width, layout } = this.#graph;
    const place = layout.placeOf(box);
    const left = Math.max(place.x, 0);
    const right = Math.min(place.x + place.width, width);
    return left < right ? (left + right) / 2 : width / 2;
  }

  #moveSideways(side) {
    const graph = this.#graph;
    if (graph.selected === null) {
      graph.select(graph.zoomed);
      return;
    }
    const next = graph.layout.around(graph.selected)[side];
    if (next !== null) {
      graph.select(next.box);
    }
  }

  // Up and down as they are on screen: of a sandwich's callers, up is away from the middle.
  #moveAlong(upwards) {
    const graph = this.#graph;
    const { layout, chart, selected } = graph;
    if (selected === null) {
      graph.select(graph.zoomed);
      return;
    }
    const middle = selected === chart.down || selected === chart.up;
    let next = null;
    if (middle) {
      next = upwards ? layout.widestCaller() : layout.widestChild(chart.down);
    } else if (layout.isUp(selected) === upwards) {
      next = layout.widestChild(selected);
    } else {
      next = selected.parent === chart.up ? chart.down : selected.parent;
    }
    if (next !== null) {
      graph.select(next);
    }
  }
}
