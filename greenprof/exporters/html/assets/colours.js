"use strict";

/**
 * What the colours of the graph stand for, in the order of the legend.
 * The legend names greenlet boundaries too: their colour is `boundaryColour(dark)`.
 */
const CATEGORIES = Object.freeze([
  {
    id: "yours",
    label: "your code",
    hint: "Functions of your program.",
  },
  {
    id: "library",
    label: "library code",
    hint: "Functions of installed packages and of the standard library.",
  },
  {
    id: "awaited",
    label: "your awaited code",
    hint: "Your coroutines that ran because sync code, across a bridge, waited for them.",
  },
  {
    id: "awaited-library",
    label: "awaited library code",
    hint: "A library's coroutines, such as a database driver, that sync code waited for.",
  },
  {
    id: "bridge",
    label: "bridge internals",
    hint: "Library code that switches greenlets so that sync code can await.",
  },
  {
    id: "await",
    label: "waiting",
    hint: "[await]: suspended; what it awaited was not there yet.",
  },
  {
    id: "ready",
    label: "ready, kept waiting",
    hint: "[ready]: what it awaited was there, but something else held up the event loop.",
  },
  {
    id: "blocked",
    label: "blocked",
    hint: "[blocked]: in a call that holds up the whole thread, and its event loop with it.",
  },
  {
    id: "idle",
    label: "idle",
    hint: "[idle]: nothing to do.",
  },
  {
    id: "task",
    label: "task, thread",
    hint: "A task, a route or a thread: what the stacks below it ran in.",
  },
]);

// Lightness, chroma and hue (OKLCH) of the fill, then whether its text is dark. OKLCH because
// there equal lightness looks equally light in every hue, and keeps the contrast of the text.
const PALETTE = {
  light: {
    yours: [0.8, 0.135, 66, true],
    library: [0.935, 0.04, 78, true],
    awaited: [0.77, 0.105, 222, true],
    "awaited-library": [0.925, 0.035, 222, true],
    bridge: [0.83, 0.006, 260, true],
    await: [0.925, 0.035, 305, true],
    ready: [0.56, 0.19, 25, false],
    blocked: [0.4, 0.105, 35, false],
    idle: [0.955, 0.003, 260, true],
    task: [0.5, 0.025, 262, false],
    root: [0.42, 0.025, 262, false],
    same: [0.92, 0.003, 260, true],
    more1: [0.9, 0.05, 25, true],
    more2: [0.79, 0.115, 25, true],
    more3: [0.52, 0.185, 27, false],
    less1: [0.9, 0.045, 248, true],
    less2: [0.77, 0.1, 248, true],
    less3: [0.48, 0.15, 256, false],
  },
  dark: {
    yours: [0.7, 0.125, 64, true],
    library: [0.36, 0.034, 70, false],
    awaited: [0.66, 0.1, 222, true],
    "awaited-library": [0.355, 0.036, 225, false],
    bridge: [0.45, 0.006, 260, false],
    await: [0.37, 0.06, 305, false],
    ready: [0.55, 0.19, 25, false],
    blocked: [0.41, 0.12, 33, false],
    idle: [0.28, 0.004, 260, false],
    task: [0.5, 0.03, 262, false],
    root: [0.4, 0.025, 262, false],
    same: [0.33, 0.004, 260, false],
    more1: [0.38, 0.07, 25, false],
    more2: [0.47, 0.135, 26, false],
    more3: [0.72, 0.16, 27, true],
    less1: [0.38, 0.06, 255, false],
    less2: [0.47, 0.115, 256, false],
    less3: [0.74, 0.125, 248, true],
  },
};

// Steps of lightness, chroma and hue that keep neighbours apart within a category.
const SHADES = [
  [0, 0, 0],
  [0.018, -0.012, 7],
  [-0.022, 0.006, -8],
  [0.008, 0.008, 13],
  [-0.012, -0.014, -3],
  [0.024, 0.002, -12],
  [-0.026, -0.006, 10],
];
const VARIED = new Set(["yours", "library", "awaited", "awaited-library", "bridge"]);
const HATCHED = new Set(["await"]);
// What may be hatched or not: a change of a box of waiting.
const HATCHED_END = "-wait";

// WCAG AA for text of this size.
const LEAST_CONTRAST = 4.5;

const THEMES = {
  light: {
    background: "#ffffff",
    darkText: "#1d1a16",
    lightText: "#ffffff",
    fadedText: "#5f6368",
    outline: "#111418",
    halo: "#ffffff",
    boundary: "#00702f",
    found: "#a3167f",
    rest: "#d5d8dd",
  },
  dark: {
    background: "#15171c",
    darkText: "#0c0d10",
    lightText: "#f4f5f7",
    fadedText: "#9aa0a8",
    outline: "#ffffff",
    halo: "#0b0c0f",
    boundary: "#3fe07f",
    found: "#ff8ad8",
    rest: "#3a3e46",
  },
};

/** Return the graph's colours that belong to no category: background, outline, boundary, ... */
function flameTheme(dark) {
  return dark ? THEMES.dark : THEMES.light;
}

/** Return the colour of the line that marks a greenlet boundary. */
function boundaryColour(dark) {
  return flameTheme(dark).boundary;
}

/** Return the "#rrggbb" of a colour given in OKLCH; what sRGB cannot show is clipped. */
function hexOfOklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  // Björn Ottosson's matrices, https://bottosson.github.io/posts/oklab/
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return hexOfChannels(
    linear.map((value) => {
      const channel = Math.min(Math.max(value, 0), 1);
      return 255 * (channel <= 0.0031308 ? 12.92 * channel : 1.055 * channel ** (1 / 2.4) - 0.055);
    }),
  );
}

function hexOfChannels(channels) {
  return "#" + channels.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("");
}

function channelsOfHex(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** Return the colour `share` (0 to 1) of the way from one "#rrggbb" to another. */
function blendColours(from, to, share) {
  const end = channelsOfHex(to);
  return hexOfChannels(channelsOfHex(from).map((value, i) => value + (end[i] - value) * share));
}

/** Return which shade a box takes: the same for a function wherever it turns up. */
function shadeOf(category, key) {
  if (!VARIED.has(category)) {
    return 0;
  }
  // Functions are numbered as they were met, so that callers and callees are neighbours in number
  // too: steps through all shades keep those apart.
  return (Math.floor(key / KEYS_PER_FUNCTION) * 3) % SHADES.length;
}

const colourCache = new Map();

/**
 * Return how a box of a category is drawn.
 *
 * `fill`, `text` and `soft` (the text of lesser things) are "#rrggbb"; `pattern` is null or
 * "hatch", whose lines are drawn in `line`. `tone` is "" or "found" for full colour, "faded" for
 * what a search did not find, "dimmed" for what lies above the box zoomed to. All text has WCAG AA
 * contrast (4.5:1) with all that it may lie on.
 */
function colourOf(category, key, dark, tone = "") {
  const shade = shadeOf(category, key);
  const pale = tone === "faded" || tone === "dimmed";
  const kind = (dark ? "dark " : "light ") + (pale ? tone : "");
  let shades = colourCache.get(category);
  if (shades === undefined) {
    shades = SHADES.map(() => ({}));
    colourCache.set(category, shades);
  }
  const known = shades[shade];
  known[kind] ??= Object.freeze(mixColour(category, shade, dark, pale ? tone : ""));
  return known[kind];
}

function mixColour(category, shade, dark, tone) {
  const theme = flameTheme(dark);
  const palette = dark ? PALETTE.dark : PALETTE.light;
  const name = category.replace(HATCHED_END, "");
  const [lightness, chroma, hue, darkText] = palette[name] ?? palette.root;
  const step = SHADES[shade];
  // Pale fills take small steps only: larger ones would look like a category of their own.
  const strength = chroma > 0.08 ? 1 : 0.6;
  const full = hexOfOklch(
    lightness + step[0] * strength,
    Math.max(chroma + step[1] * strength * (chroma > 0.08 ? 1 : 0.4), 0),
    hue + step[2],
  );
  if (tone) {
    const fill = blendColours(full, theme.background, tone === "faded" ? 0.7 : 0.6);
    const wanted = tone === "faded" ? theme.fadedText : theme.outline;
    const text = readableText(wanted, theme.outline, [fill]);
    return { fill, text, soft: text, pattern: null, line: fill };
  }
  const text = darkText ? theme.darkText : theme.lightText;
  const hatched = HATCHED.has(category) || name !== category;
  const line = hatched
    ? hexOfOklch(lightness + (dark ? 0.06 : -0.055), chroma + 0.03, hue)
    : full;
  return {
    fill: full,
    text,
    soft: readableText(blendColours(text, full, 0.2), text, [full, line]),
    pattern: hatched ? "hatch" : null,
    line,
  };
}

/**
 * Return whether a box is what a reader looks for: `matches` is {functions: Uint8Array by function,
 * groups: Set of keys of tasks and threads}.
 */
function isMatch({ key, info }, { functions, groups }) {
  return info.fn >= 0 ? functions[info.fn] === 1 : groups.has(key);
}

/** Return box -> its tone, where the graph is zoomed to a box and a search found something. */
function tonesOf(zoomed, matches) {
  if (matches === null) {
    const above = new Set();
    for (let box = zoomed.parent; box; box = box.parent) {
      above.add(box);
    }
    return (box) => (above.has(box) ? "dimmed" : "");
  }
  return (box) => {
    // A function's waiting is a part of it.
    const owner = box.info.type === "state" ? box.parent : null;
    return isMatch(box, matches) ? "found" : owner && isMatch(owner, matches) ? "" : "faded";
  };
}

/** Return `wanted`, moved towards `best` as far as text needs to be read on all the grounds. */
function readableText(wanted, best, grounds) {
  let text = wanted;
  for (let share = 0; share <= 1; share += 0.125) {
    text = blendColours(wanted, best, share);
    if (grounds.every((ground) => contrastOf(text, ground) >= LEAST_CONTRAST)) {
      break;
    }
  }
  return text;
}

/** Return the contrast of two colours, 1 to 21, as WCAG 2 defines it. */
function contrastOf(one, other) {
  const [low, high] = [luminanceOf(one), luminanceOf(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function luminanceOf(hex) {
  const [red, green, blue] = channelsOfHex(hex).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
