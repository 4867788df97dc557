"use strict";

// Numbers as a person reads them, the same to the letter as in greenprof/exporters/units.py: a
// figure in the terminal has to be found again on the page.

// [below so many ns, ns in the unit, digits after the point, unit]; the limits are where rounding
// would make the next number of digits.
const DURATION_STEPS = [
  [9_995_000, 1e6, 2, "ms"],
  [99_950_000, 1e6, 1, "ms"],
  [999_500_000, 1e6, 0, "ms"],
  [9_995_000_000, 1e9, 2, "s"],
  [99_950_000_000, 1e9, 1, "s"],
  [599_500_000_000, 1e9, 0, "s"],
];

/** A number with so many digits after the point; halves go to the even digit, as in Python. */
function roundedText(number, digits) {
  // toFixed rounds the exact value, but takes halves up. A half here is an odd number of eighths
  // (at two digits), quarters (at one) or halves (at none).
  const parts = number * 2 ** (digits + 1);
  if (Math.abs(parts) % 2 !== 1) {
    return number.toFixed(digits);
  }
  const below = Math.floor(number * 10 ** digits);
  return ((below + (below % 2 === 0 ? 0 : 1)) / 10 ** digits).toFixed(digits);
}

/** A time of `ns` nanoseconds in three digits: "1.23 ms", "45.6 s", "12 min 03 s"; "-" for none. */
function formatDuration(ns) {
  if (ns === 0) {
    return "-";
  }
  if (ns < 5_000) {
    return "<0.01 ms";
  }
  for (const [limit, unitNs, digits, unit] of DURATION_STEPS) {
    if (ns < limit) {
      return `${roundedText(ns / unitNs, digits)} ${unit}`;
    }
  }
  const twoDigits = (number) => String(number).padStart(2, "0");
  const seconds = Number(roundedText(ns / 1e9, 0));
  if (seconds < 6_000) {
    return `${Math.floor(seconds / 60)} min ${twoDigits(seconds % 60)} s`;
  }
  const minutes = Number(roundedText(ns / 60e9, 0));
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`;
}

/** "12 %" of a whole; "-" of nothing. */
function formatPercent(part, whole) {
  if (!whole) {
    return "-";
  }
  const share = (100 * part) / whole;
  return `${roundedText(share, share >= 9.95 || share === 0 ? 0 : 1)} %`;
}

/** A whole number with commas: "1,234". */
function formatCount(number) {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** "1 task" or "1,234 tasks". */
function plural(count, thing) {
  return `${formatCount(count)} ${thing}${count === 1 ? "" : "s"}`;
}
