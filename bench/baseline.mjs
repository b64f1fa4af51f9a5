// What moved between two results of the benchmark: `npm run bench -- --compare BASELINE.json`.
import { layOut, spread } from './report.mjs';

/** Medians closer than this are alike, whatever their quartiles say. */
const ALIKE = 0.02;
/** A goal's single value has no spread: it is told only beyond this. */
const ALIKE_SINGLE = 0.05;

/** The rows of all comparisons by section, title and name. */
function rowsOf({ sections }) {
  const rows = new Map();
  for (const [section, tables] of Object.entries(sections)) {
    for (const { title, rows: own = [] } of tables) {
      for (const row of own) if (row.ms) rows.set([section, title, row.name].join(' · '), row);
    }
  }
  return rows;
}

/**
 * What of one row is compared: its ratio to the plain forward, since other load on the machine affects both, or, where it is
 * that itself, its milliseconds.
 */
const figureOf = ({ ratio, ms }) => (ratio && ratio.median !== 1 ? ratio : ms);

/** Whether two medians differ by more than either spread, and by more than nothing. */
function hasMoved(before, after) {
  if (Math.abs(after.median / before.median - 1) <= ALIKE) return false;
  return after.low > before.high || after.high < before.low;
}

/**
 * Compares two results of the benchmark, as `Report.write` leaves them.
 *
 * @returns `moved`: `{ what, before, after, change }` of rows whose quartiles no longer overlap and whose medians are more than
 *   2 % apart, and of goals whose values are more than 5 % apart, the largest change first; `alike`: how many were compared beside those; `missing`: what only the
 *   baseline has; `differs`: what makes the two no fair comparison
 */
export function movements(baseline, result) {
  const [before, after] = [rowsOf(baseline), rowsOf(result)];
  const moved = [];
  let alike = 0;
  const missing = [];
  for (const [what, row] of before) {
    const now = after.get(what);
    if (!now) {
      // Sections that were not run now say nothing.
      if (Object.hasOwn(result.sections, what.split(' · ')[0])) missing.push(what);
      continue;
    }
    const [old, own] = [figureOf(row), figureOf(now)];
    if (hasMoved(old, own)) moved.push({ what, before: old, after: own, change: own.median / old.median });
    else alike++;
  }
  const goals = new Map(baseline.goals.map((goal) => [`${goal.section} · ${goal.what}`, goal]));
  for (const { section, what, value, unit } of result.goals) {
    const old = goals.get(`${section} · ${what}`);
    // Of rows with a spread the above has told.
    if (!old || / × /.test(what)) continue;
    const change = value / old.value;
    if (Math.abs(change - 1) > ALIKE_SINGLE)
      moved.push({ what: `${section} · ${what}`, old: old.value, value, unit, change });
    else alike++;
  }
  moved.sort((a, b) => Math.abs(Math.log(b.change)) - Math.abs(Math.log(a.change)));
  const differs = ['threads', 'quick', 'busy'].filter((key) => (baseline[key] ?? false) !== (result[key] ?? false));
  if (baseline.machine?.cpu !== result.machine?.cpu) differs.push('machine');
  return { moved, alike, missing, differs };
}

/** The movements as lines for a terminal. */
export function describeMovements({ moved, alike, missing, differs }) {
  const lines = moved.map(({ what, before, after, old, value, unit = '', change }) => [
    what,
    before ? spread(before, 3) : `${old.toFixed(2)}${unit}`,
    after ? spread(after, 3) : `${value.toFixed(2)}${unit}`,
    `× ${change.toFixed(2)}`,
  ]);
  return [
    ...(differs.length ? [`no fair comparison: the baseline has another ${differs.join(', ')}`] : []),
    ...(lines.length ? layOut([['', 'before', 'now', 'change'], ...lines]) : []),
    ...missing.map((what) => `only in the baseline: ${what}`),
    `${moved.length} moved, ${alike} alike`,
  ];
}
