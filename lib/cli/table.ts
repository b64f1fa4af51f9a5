import stringWidth from 'string-width';

/** Rows under headings, as aligned columns; those of numbers to the right. */
export function formatTable(headings: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const texts = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)));
  const widths = headings.map((heading, i) =>
    Math.max(stringWidth(heading), ...texts.map((row) => stringWidth(row[i] ?? ''))),
  );
  const isNumber = headings.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === 'number'));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => {
        const space = ' '.repeat((widths[i] as number) - stringWidth(cell));
        return isNumber[i] ? space + cell : cell + space;
      })
      .join('  ')
      .trimEnd();
  return [line(headings), ...texts.map(line)].join('\n');
}
