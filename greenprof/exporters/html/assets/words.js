"use strict";

/**
 * What the page calls the clocks. The exact engine may have measured by the wall clock how long
 * functions ran: what the page treats as CPU time has another name then.
 */

const CLOCK_LABELS = { wall: "wall", cpu: "CPU", await: "await" };
/** In a sentence. */
const CLOCK_WORDS = { wall: "wall time", cpu: "CPU time", await: "await time" };
const CLOCK_BANDS = { wall: "wall clock", cpu: "CPU clock", await: "await clock" };
const CLOCK_HINTS = {
  wall: "Time lived by tasks: CPU, waiting and blocked; tasks side by side add up",
  cpu: "Time on a processor",
  await: "Time that tasks were suspended: awaiting, or ready while the loop was busy",
};
const CLOCKS_NOTE = {
  both: "CPU times are of the CPU clock. All others are of each task’s wall clock: "
    + "tasks wait side by side, so they add up to more than the program’s duration.",
  cpu: "Times of functions and tasks are of the CPU clock, all others of the wall clock.",
  wall: "All times are of each task’s wall clock: tasks wait side by side, so they add up to more "
    + "than the program’s duration. Run: on the CPU, or in a call that blocks or waits.",
};

/** What the box of everything adds up. */
function rootWords(clock) {
  return clock === "cpu" ? CLOCK_WORDS.cpu : `${CLOCK_WORDS[clock]} of tasks`;
}

/** Which of the clocks a profile says something of; those of CPU time only have no others. */
function clocksOf({ exact, samples }) {
  const waits = !exact || samples.state.some((state) => state > 0);
  return waits ? ["wall", "cpu", "await"] : ["cpu"];
}

/** Take the words for a profile, once, before anything is shown. */
function chooseWords(payload) {
  if (payload.running !== "CPU") {
    CLOCK_LABELS.cpu = payload.running;
    CLOCK_WORDS.cpu = `${payload.running} time`;
    CLOCK_BANDS.cpu = payload.running;
    CLOCK_HINTS.wall = "Time lived by tasks: running and waiting; tasks side by side add up";
    CLOCK_HINTS.cpu = "Time in functions that ran, or were in a call that blocks or waits";
    CLOCK_HINTS.await = "Time that coroutines were suspended";
  }
  const note = payload.running !== "CPU" ? "wall" : clocksOf(payload).length === 1 ? "cpu" : "both";
  document.getElementById("clocks-note").textContent = CLOCKS_NOTE[note];
}
