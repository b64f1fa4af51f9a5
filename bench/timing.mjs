// What is measured, and for how long: --turns and --seconds, with the defaults of a benchmark or of --quick.

const FULL = { turns: 15, seconds: 30, warmUps: 3 };
const QUICK = { turns: 2, seconds: 1, warmUps: 1 };

/** Turns, seconds and warm-ups of the flags; what was given wins over what --quick would have. */
export function timing({ turns, seconds, quick }) {
  const defaults = quick ? QUICK : FULL;
  // Turns that were asked for are not to be cut short by a second that nobody asked for.
  const most = turns === undefined ? defaults.seconds : FULL.seconds;
  return { turns: Number(turns ?? defaults.turns), seconds: Number(seconds ?? most), warmUps: defaults.warmUps };
}
