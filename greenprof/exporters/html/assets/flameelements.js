"use strict";

// The window on the graph is no higher than this, unless the page's style says otherwise.
const FLAME_MAX_HEIGHT = "var(--graph-height, 66vh)";
const FLAME_SHARES = { wall: "wall time", await: "awaiting time" };

/** Put the elements of a flame graph into `host`; return them by name. */
function buildFlameElements(host) {
  // The canvas is as high as the window on the graph, and stays where it is while the spacer
  // scrolls: browsers do not draw canvases as high as a deep stack.
  const scroller = flameElement("div", "flame-scroller", {
    position: "relative",
    overflow: "hidden auto",
    // Of a host with a height of its own; otherwise as high as the graph, up to the maximum.
    height: "100%",
    maxHeight: FLAME_MAX_HEIGHT,
    scrollbarWidth: "thin",
  });
  const spacer = flameElement("div", "flame-spacer", {});
  const stage = flameElement("div", "flame-stage", {
    position: "sticky",
    top: "0",
    overflow: "hidden",
  });
  const canvas = flameElement("canvas", "flame-canvas", {
    display: "block",
    cursor: "default",
    // Fingers scroll the page and enlarge it; only drags to the side are the graph's.
    touchAction: "pan-y pinch-zoom",
    outlineOffset: "-3px",
  });
  const overlay = flameElement("canvas", "flame-overlay", {
    position: "absolute",
    left: "0",
    top: "0",
    pointerEvents: "none",
  });
  const live = flameElement("div", "flame-live", {
    position: "absolute",
    width: "1px",
    height: "1px",
    overflow: "hidden",
    clipPath: "inset(50%)",
    whiteSpace: "nowrap",
  });
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "flame graph");
  canvas.setAttribute(
    "aria-label",
    "Flame graph. Arrow keys move between frames, Enter zooms in, Escape zooms out.",
  );
  overlay.setAttribute("aria-hidden", "true");
  live.setAttribute("aria-live", "polite");
  stage.append(canvas, overlay);
  spacer.append(stage);
  scroller.append(spacer);
  host.append(scroller, live);
  return { scroller, spacer, stage, canvas, overlay, live };
}

function flameElement(tag, name, style) {
  const element = document.createElement(tag);
  element.className = name;
  Object.assign(element.style, style);
  return element;
}

/** Return what is said of a chosen box to those who listen. */
function flameSentence(box, chart) {
  const { label, place, crosses, category } = box.info;
  const share = formatPercent(box.weight, chart.whole);
  const parts = [
    label,
    place,
    CATEGORIES.find(({ id }) => id === category)?.label ?? "",
    formatDuration(box.weight),
    `${share} of the ${FLAME_SHARES[chart.clock] ?? CLOCK_WORDS.cpu}`,
    chart.tree.other ? changeSentence(box) : "",
    crosses ? "across a greenlet boundary" : "",
    `level ${box.depth}`,
  ];
  return parts.filter((part) => part !== "").join(", ");
}
