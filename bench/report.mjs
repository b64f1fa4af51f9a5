// What the benchmark says: tables for the terminal while it runs, goals with their limits, what was left out and why,
// and all of it as JSON.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

export const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB`;

/** A median with its quartiles. */
export function spread({ median, low, high }, digits) {
  return `${median.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
}

// Three digits that mean something, of microseconds as of seconds.
const digitsOf = (value) => (value < 1 ? 4 : value < 10 ? 2 : 1);

/** Lines of cells as text, the first column to the left, the others to the right. */
export function layOut(lines) {
  const width = (column) => Math.max(...lines.map((line) => (line[column] ?? '').length));
  const widths = Array.from({ length: Math.max(...lines.map((line) => line.length)) }, (_, column) => width(column));
  const cell = (text = '', column) => (column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]));
  return lines.map((line) =>
    widths
      .map((_, column) => cell(line[column], column))
      .join('   ')
      .trimEnd(),
  );
}

export class Report {
  #section = '';
  #sections = {};
  #goals = [];
  #leftOut = [];
  #versions = {};

  #judges;

  /** @param judges whether goals are judged: not on inputs of other sizes than they are meant for */
  constructor({ judges = true, print = console.log } = {}) {
    this.#judges = judges;
    this.print = print;
  }

  /** Versions of what takes part, beside those already known. */
  versions(more) {
    Object.assign(this.#versions, more);
  }

  section(name, about) {
    this.#section = name;
    this.#sections[name] ??= [];
    this.print(`\n── ${name}: ${about}`);
  }

  /** A table, and what it says in numbers. */
  table(title, head, lines, data) {
    this.#sections[this.#section].push({ title, ...data });
    this.print(`\n${title}`);
    for (const line of lines.length > 0 ? layOut([['', ...head], ...lines]) : []) this.print(`  ${line}`);
  }

  /** The rows of `compare`. Those with a limit are goals. */
  comparison(title, rows) {
    const head = ['ms (quartiles)', `× ${rows[0].name}`, '× its own plain', 'results'];
    const failed = rows.filter(({ error }) => error);
    const lines = rows
      .filter(({ error }) => !error)
      .map(({ name, ms, ratio, ratioToBase, bytes }) => [
        name,
        spread(ms, digitsOf(ms.median)),
        ratio ? spread(ratio, 3) : '',
        ratioToBase ? spread(ratioToBase, 3) : '',
        bytes ? megabytes(bytes) : '',
      ]);
    const turns = rows.find(({ ms }) => ms)?.ms.count ?? 0;
    this.table(`${title} (${turns} turns)`, dropEmptyColumns(head, lines), lines, { title, rows });
    for (const { name, error } of failed) this.print(`  ${name} failed: ${error.split('\n')[0]}`);
    for (const { name, base, ratio, ratioToBase, limit, baseLimit } of rows) {
      const what = `${title}: ${name}`;
      if (limit && ratio) this.goal(`${what} × ${rows[0].name}`, ratio.median, limit);
      if (baseLimit && ratioToBase) this.goal(`${what} × ${base}`, ratioToBase.median, baseLimit);
    }
  }

  /** One thing that the project wants to reach: at most so much, or at least with `atLeast`. */
  goal(what, value, limit, { unit = '', digits = 2, atLeast = false } = {}) {
    const reached = atLeast ? value >= limit : value <= limit;
    const met = this.#judges ? reached : null;
    this.#goals.push({ section: this.#section, what, value, limit, atLeast, unit, met });
    this.print(`  ${goalLine({ what, value, limit, unit, digits, atLeast, met })}`);
  }

  note(text) {
    this.print(`  ${text}`);
  }

  /** Says what isn't measured, and why. */
  leftOut(what, why) {
    this.#leftOut.push({ section: this.#section, what, why });
    this.print(`  left out: ${what} (${why})`);
  }

  /** The goals of all sections once more, and whether they were met. */
  goals() {
    if (this.#goals.length === 0) return;
    this.print('\n── goals');
    const lines = this.#goals.map(({ what, value, limit, unit, atLeast, met }) => [
      what,
      `${value.toFixed(2)}${unit}`,
      `${atLeast ? 'at least' : 'at most'} ${limit}${unit}`,
      verdict(met),
    ]);
    for (const line of layOut(lines)) this.print(`  ${line}`);
  }

  /** Writes everything to a file, and returns it. */
  write(path, about) {
    mkdirSync(dirname(path), { recursive: true });
    const all = {
      ...about,
      versions: this.#versions,
      sections: this.#sections,
      goals: this.#goals,
      leftOut: this.#leftOut,
    };
    writeFileSync(path, `${JSON.stringify(all, null, 2)}\n`);
    return all;
  }
}

function verdict(met) {
  if (met === null) return 'not judged';
  return met ? 'met' : 'MISSED';
}

function goalLine({ what, value, limit, unit, digits, atLeast, met }) {
  const wanted = `${atLeast ? 'at least' : 'at most'} ${limit}${unit}`;
  return `goal: ${what} ${value.toFixed(digits)}${unit}, ${wanted}: ${verdict(met)}`;
}

/** Takes columns out of lines, in place, that have nothing in any of them; returns the head without them. */
function dropEmptyColumns(head, lines) {
  const used = head.map((_, column) => lines.some((line) => line[column + 1]));
  for (const line of lines) line.splice(1, line.length - 1, ...line.slice(1).filter((_, column) => used[column]));
  return head.filter((_, column) => used[column]);
}
