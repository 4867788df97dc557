"use strict";

const FLAME_FONT =
  '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
const FLAME_PADDING = 4;
// Narrower boxes have no room for three letters: less than that is noise.
const FLAME_LEAST_LABEL_PX = 28;
// Dash and gap of the line that marks a greenlet boundary, and the room its mark takes, in css px.
const FLAME_DASH = [7, 4];
const FLAME_MARK_PX = 9;
const FLAME_SHADE_PX = 8;
const FLAME_PLAIN_TEXT = /^[\x20-\x7e]*$/;

/** Cuts labels to the width of their boxes, and remembers how. */
class FlameLabels {
  #context;
  #widths = new Map();
  #cuts = new Map();
  #cutCount = 0;

  constructor(context) {
    this.#context = context;
  }

  /** Return the width of a text in css px. */
  width(text) {
    let width = this.#widths.get(text);
    if (width === undefined) {
      if (this.#widths.size > 50_000) {
        this.#widths.clear();
      }
      width = this.#context.measureText(text).width;
      this.#widths.set(text, width);
    }
    return width;
  }

  /** Return the text, or as much of it as has room with an ellipsis, or "". */
  fit(text, room) {
    // No text of this length fits, and measuring 10,000 letters takes time.
    if (text.length < room && this.width(text) <= room) {
      return text;
    }
    const whole = Math.floor(room);
    let cuts = this.#cuts.get(text);
    if (cuts === undefined) {
      cuts = new Map();
      this.#cuts.set(text, cuts);
    }
    if (!cuts.has(whole)) {
      cuts.set(whole, this.#cut(text, whole));
      this.#cutCount += 1;
    }
    const cut = cuts.get(whole);
    // Each step of an animation cuts at other widths.
    if (this.#cutCount > 50_000) {
      this.#cuts.clear();
      this.#cutCount = 0;
    }
    return cut;
  }

  #cut(text, room) {
    // Of "LazyLoader._load_for_state" the method says more than the first letters of its class, but
    // "__call__" has little to say.
    const dot = text.lastIndexOf(".");
    const end = "…" + text.slice(dot + 1);
    if (dot > 0 && end.length > 1 && end.length < room) {
      const start = this.#longest(text.slice(0, dot), end, room);
      if (start !== null && (start.length > 5 || !end.startsWith("…__"))) {
        return start.length < 3 ? end : start + end;
      }
    }
    const start = this.#longest(text, "…", room) ?? "";
    return start.length < 3 ? "" : start + "…";
  }

  /** Return as much of a text as fits together with an end; null if not even the end does. */
  #longest(text, end, room) {
    let low = -1;
    let high = Math.min(text.length, Math.ceil(room));
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#context.measureText(text.slice(0, middle) + end).width <= room) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    // Half of a surrogate pair is no letter.
    const half = low > 0 && /[\ud800-\udbff]/.test(text[low - 1]);
    return low < 0 ? null : text.slice(0, half ? low - 1 : low);
  }
}

/** Draws a FlameLayout on a canvas, and outlines of single boxes on another one above it. */
class FlamePainter {
  #context;
  #over;
  #labels;
  #hatches = new Map();
  #ratio = 0;
  #width = 0;
  #height = 0;

  constructor(canvas, overlay) {
    // An opaque canvas gets text with crisper edges.
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#over = overlay.getContext("2d");
    this.#labels = new FlameLabels(this.#context);
  }

  /** Set the size in css px and the device pixels in each. Both canvases are empty after it. */
  resize(width, height, ratio) {
    this.#width = width;
    this.#height = height;
    if (ratio !== this.#ratio) {
      this.#hatches.clear();
      this.#ratio = ratio;
    }
    for (const { canvas } of [this.#context, this.#over]) {
      // Setting a size empties the canvas and gives it new memory, even when it is the same size.
      const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== wide || canvas.height !== high) {
        canvas.width = wide;
        canvas.height = high;
      }
    }
  }

  /**
   * Draw the rows that are to be seen.
   *
   * @param toneOf box -> "", "found", "faded" or "dimmed"
   */
  draw(layout, top, dark, toneOf) {
    const context = this.#context;
    const theme = flameTheme(dark);
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.fillStyle = theme.background;
    context.fillRect(0, 0, this.#width, this.#height);
    context.font = FLAME_FONT;
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
    context.direction = "ltr";
    const first = Math.max(Math.floor(top / FLAME_ROW), 0);
    const last = Math.min(Math.ceil((top + this.#height) / FLAME_ROW), layout.rows.length);
    for (let index = first; index < last; index += 1) {
      const row = layout.rows[index];
      const y = this.#snap(index * FLAME_ROW - top);
      this.#drawRests(row.rests, y, theme);
      let end = -1;
      for (const entry of row.entries) {
        end = this.#drawBox(entry, y, dark, toneOf(entry.box), end);
      }
    }
    if (layout.chart.up) {
      // What the sandwich is about, between its callers and what it calls.
      context.fillStyle = theme.outline;
      for (const edge of [-1, FLAME_ROW - 2]) {
        context.fillRect(0, layout.pivot * FLAME_ROW - top + edge, this.#width, 2);
      }
    }
    // After all boxes: the lines lie on the edges between two rows. A boundary is between a box and
    // its caller, which lies above it; only in the bottom-up chart do callers lie below.
    const below = layout.chart.view === "bottom";
    for (let index = first; index < last; index += 1) {
      const row = layout.rows[index];
      const y = this.#snap(index * FLAME_ROW - top);
      for (const entry of row.entries) {
        if (entry.box.info.crosses) {
          context.globalAlpha = toneOf(entry.box) === "faded" ? 0.4 : 1;
          this.#drawBoundary(entry, below ? y + FLAME_ROW - 1 : y, below, theme);
        }
      }
    }
    context.globalAlpha = 1;
    this.#shade(top > 0, 0, FLAME_SHADE_PX);
    this.#shade(layout.height - top > this.#height + 1, this.#height, -FLAME_SHADE_PX);
  }

  // A shadow at the edge where the graph goes on: scroll bars are hidden on many systems.
  #shade(on, edge, length) {
    if (on) {
      const shade = this.#context.createLinearGradient(0, edge, 0, edge + length);
      shade.addColorStop(0, "rgb(0 0 0 / 30%)");
      shade.addColorStop(1, "rgb(0 0 0 / 0%)");
      this.#context.fillStyle = shade;
      this.#context.fillRect(0, Math.min(edge, edge + length), this.#width, Math.abs(length));
    }
  }

  // On a whole device pixel: between two of them edges and text are blurred.
  #snap(y) {
    return Math.round(y * this.#ratio) / this.#ratio;
  }

  // The part of [x, x + width] to be seen, on whole device pixels, with the gap to the next box.
  #span(x, width, gap) {
    const ratio = this.#ratio;
    const left = Math.round(Math.max(x, 0) * ratio);
    const end = Math.round(Math.min(x + width, this.#width) * ratio);
    const right = Math.max(end - (width > 3 ? Math.max(Math.round(gap * ratio), 1) : 0), left + 1);
    return { left: left / ratio, width: (right - left) / ratio };
  }

  #drawRests(rests, y, theme) {
    this.#context.fillStyle = theme.rest;
    for (const rest of rests) {
      const { left, width } = this.#span(rest.x, rest.width, 0);
      // Lower than a box: a heap of many small ones.
      this.#context.fillRect(left, y, width, FLAME_ROW / 2);
    }
  }

  // Return where the box ends. If the one before it ended there too, this one is not to be seen.
  #drawBox({ box, x, width }, y, dark, tone, end) {
    const context = this.#context;
    const span = this.#span(x, width, 1);
    if (span.left + span.width <= end) {
      return end;
    }
    const info = box.info;
    const colour = box.chart.tree.other
      ? changeColour(box, dark, tone) : colourOf(info.category, box.key, dark, tone);
    const height = this.#snap(FLAME_ROW - 1);
    context.fillStyle = colour.fill;
    context.fillRect(span.left, y, span.width, height);
    if (colour.pattern !== null && span.width > 2) {
      context.fillStyle = this.#hatch(colour.line);
      context.fillRect(span.left, y, span.width, height);
    }
    if (span.width >= FLAME_LEAST_LABEL_PX) {
      this.#drawLabel(box, info, colour, span, y);
    }
    if (tone === "found") {
      // Into the gap below, clear of the text's own underscores.
      context.fillStyle = flameTheme(dark).found;
      context.fillRect(span.left, y + height - 1, span.width, 2);
    }
    return span.left + span.width;
  }

  #drawLabel(box, info, colour, span, y) {
    const context = this.#context;
    // The mark of a boundary takes the corner.
    const left = span.left + FLAME_PADDING + (info.crosses ? FLAME_MARK_PX : 0);
    let room = span.left + span.width - FLAME_PADDING - left;
    const name = this.#labels.fit(info.label, room);
    if (name === "") {
      return;
    }
    // Letters of some scripts, and stacked accents, reach out of their line.
    const plain = FLAME_PLAIN_TEXT.test(info.label) && FLAME_PLAIN_TEXT.test(info.place);
    if (!plain) {
      context.save();
      context.beginPath();
      context.rect(span.left, y, span.width, FLAME_ROW - 1);
      context.clip();
    }
    const base = this.#snap(y + 13);
    context.fillStyle = colour.text;
    context.fillText(name, left, base);
    room -= this.#labels.width(name) + 10;
    if (info.place && name === info.label && room > 0) {
      const place = info.place;
      if (place.length < room && this.#labels.width(place) <= room) {
        context.fillStyle = colour.soft;
        context.fillText(place, left + this.#labels.width(name) + 10, base);
        room -= this.#labels.width(place) + 16;
      } else {
        room = 0;
      }
    }
    // The root's name says its time.
    if (span.width > 200 && info.type !== "root") {
      const time = box.chart.tree.other ? changeLabel(box) : formatDuration(box.weight);
      const width = this.#labels.width(time);
      if (width <= room) {
        context.fillStyle = colour.soft;
        context.fillText(time, span.left + span.width - FLAME_PADDING - width, base);
      }
    }
    if (!plain) {
      context.restore();
    }
  }

  // A cut through the graph: dashes on a strip of background, and a small mark at its left end.
  #drawBoundary({ x, width }, y, below, theme) {
    const context = this.#context;
    const { left, width: length } = this.#span(x, width, 1);
    context.fillStyle = theme.halo;
    context.fillRect(left, y - 1.5, length, 3);
    context.fillStyle = theme.boundary;
    if (length < 2 * FLAME_DASH[0]) {
      context.fillRect(left, y - 1.5, length, 3);
      return;
    }
    for (let at = 0; at < length; at += FLAME_DASH[0] + FLAME_DASH[1]) {
      context.fillRect(left + at, y - 1.5, Math.min(FLAME_DASH[0], length - at), 3);
    }
    if (length >= FLAME_LEAST_LABEL_PX) {
      // Points into the box: what was called from the other greenlet.
      context.beginPath();
      context.moveTo(left + 2, y);
      context.lineTo(left + 12, y);
      context.lineTo(left + 7, y + (below ? -8 : 8));
      context.fill();
    }
  }

  /** Outline boxes: the hovered one, and the selected one stronger. */
  outline(layout, top, dark, hovered, selected) {
    const context = this.#over;
    const theme = flameTheme(dark);
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.clearRect(0, 0, this.#width, this.#height);
    if (hovered !== null && hovered !== selected) {
      this.#drawOutline(layout.placeOf(hovered), top, theme, 1);
    }
    if (selected !== null) {
      this.#drawOutline(layout.placeOf(selected), top, theme, 2);
    }
  }

  #drawOutline({ x, width, row }, top, theme, thickness) {
    // Into the gaps around the box, so that its text keeps its room.
    const y = row * FLAME_ROW - top - 1;
    if (x >= this.#width || x + width <= 0 || y >= this.#height || y + FLAME_ROW <= 0) {
      return;
    }
    const context = this.#over;
    const span = this.#span(x, width, 1);
    const line = (colour, thick, inset) => {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      const edge = inset + thick / 2;
      const inside = [Math.max(span.width - 2 * edge, 0), FLAME_ROW + 1 - 2 * edge];
      context.strokeRect(span.left + edge, y + edge, ...inside);
    };
    // Two lines, light and dark: one of them is seen on any fill.
    line(theme.outline, thickness, 0);
    if (span.width > 4 * thickness) {
      line(theme.halo, 1, thickness);
    }
  }

  #hatch(colour) {
    let pattern = this.#hatches.get(colour);
    if (pattern === undefined) {
      pattern = this.#newHatch(colour);
      this.#hatches.set(colour, pattern);
    }
    return pattern;
  }

  #newHatch(colour) {
    const side = Math.round(8 * this.#ratio);
    const tile = document.createElement("canvas");
    tile.width = side;
    tile.height = side;
    const context = tile.getContext("2d");
    context.strokeStyle = colour;
    context.lineWidth = side / 4;
    context.beginPath();
    // The line and its neighbours' ends in the corners, so that tiles join.
    for (const shift of [-side, 0, side]) {
      context.moveTo(shift - 1, side + 1);
      context.lineTo(shift + side + 1, -1);
    }
    context.stroke();
    const pattern = this.#context.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(8 / side));
    return pattern;
  }
}
