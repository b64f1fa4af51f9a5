/** Columns under their titles; numbers to the right. */
export function table(titles, rows) {
  const lines = [titles, ...rows].map((row) => row.map(String));
  const widths = titles.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const numeric = titles.map((_, i) =>
    rows.every((row) => /^[\d.,]*( ?[–×] ?[\d.,]*)?( \w?B)?$|^—$/.test(String(row[i]))),
  );
  return lines
    .map((line) =>
      line
        .map((text, i) => (numeric[i] ? text.padStart(widths[i]) : text.padEnd(widths[i])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const count = (results, status) => results.filter((each) => each.status === status).length;

export function totals(results) {
  const [passed, failed, skipped, notRun] = ['passed', 'failed', 'skipped', 'not run'].map((each) =>
    count(results, each),
  );
  return { passed, failed, skipped, notRun };
}

/** What came of the checks: a line for each group, then whatever did not pass, in full. */
export function checksTable(results) {
  const groups = [...new Set(results.map(({ group }) => group))];
  const rows = groups.map((group) => {
    const own = results.filter((each) => each.group === group);
    const { passed, failed, skipped, notRun } = totals(own);
    const time = own.reduce((sum, each) => sum + each.milliseconds, 0);
    return [group, passed, failed, skipped, notRun, (time / 1000).toFixed(1)];
  });
  const parts = [table(['group', 'passed', 'failed', 'skipped', 'not run', 'seconds'], rows)];
  for (const status of ['failed', 'skipped']) {
    const own = results.filter((each) => each.status === status);
    if (own.length === 0) continue;
    const lines = own.map(
      ({ group, name, detail }) => `  ${group}: ${name}\n      ${detail.replaceAll('\n', '\n      ')}`,
    );
    parts.push(`${status[0].toUpperCase()}${status.slice(1)}:\n${lines.join('\n')}`);
  }
  const unrun = results.filter(({ status }) => status === 'not run');
  if (unrun.length > 0) parts.push(`Not run: ${unrun.map(({ group, name }) => `${group}: ${name}`).join('; ')}`);
  return parts.join('\n\n');
}

const size = (bytes) => {
  if (bytes === undefined || bytes === null) return '—';
  const [divisor, unit] = bytes >= 1e9 ? [1e9, 'GB'] : bytes >= 1e6 ? [1e6, 'MB'] : [1e3, 'kB'];
  return `${(bytes / divisor).toFixed(bytes >= 1e9 ? 2 : 1)} ${unit}`;
};

/** The figures: one line for each way of each model and length. */
export function figuresTable(rows) {
  const titles = [
    'model',
    'tokens',
    'way',
    'median ms',
    'least–most',
    '× plain',
    'result',
    'beyond plain ÷ copy',
    'peak memory',
  ];
  const lines = rows.map((row) => {
    const place = [row.model, row.tokens, row.way];
    if (row.bandwidth) {
      const { inside, outside } = row.bandwidth;
      return [
        ...place,
        '',
        '',
        '',
        '',
        `${(inside / 1e9).toFixed(1)} GB/s on it, ${(outside / 1e9).toFixed(1)} to the CPU`,
        '',
      ];
    }
    if (row.skipped || row.failed)
      return [...place, '—', '', '', size(row.bytes), row.skipped ? row.skipped : 'failed', ''];
    return [
      ...place,
      row.median.toFixed(2),
      `${row.least.toFixed(2)}–${row.most.toFixed(2)}`,
      row.ratio === undefined ? '—' : row.ratio.toFixed(2),
      size(row.bytes),
      row.overCopy === undefined ? '—' : row.overCopy.toFixed(2),
      size(row.peak),
    ];
  });
  return table(titles, lines);
}
