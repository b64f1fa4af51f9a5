import stringWidth from 'string-width';
import { renderHeatmap } from '../../lib/view/heatmap';

const data = Float32Array.of(1, 0, 0, 0.5, 0.5, 0, 0.02, 0.25, 0.73);
const matrix = { shape: [3, 3], data };
const tokens = ['the', 'cat', 'sat'];

describe('renderHeatmap', () => {
  test('shades without colour, keys downwards above the columns', () => {
    expect(renderHeatmap(matrix, tokens, tokens, { color: false, width: 60 })).toBe(
      `
    t c s
    h a a
    e t t
the ██
cat ▒▒▒▒
sat   ░░▓▓
    0    ░░░▒▒▒▓▓▓███ 1.00
`.slice(1, -1),
    );
  });

  test('24-bit colour from dark to light, ended on each line', () => {
    const lines = renderHeatmap(matrix, tokens, tokens, { color: true, width: 60 }).split('\n');
    expect(lines[3]).toBe('the \x1b[48;2;252;253;191m  \x1b[48;2;13;8;41m  \x1b[48;2;13;8;41m  \x1b[0m');
    for (const line of lines.slice(3)) expect(line.replace(' 1.00', '').endsWith('\x1b[0m')).toBe(true);
  });

  test('no colour where stdout is no terminal', () => {
    expect(process.stdout.isTTY && process.stdout.getColorDepth() >= 24).toBeFalsy();
    expect(renderHeatmap(matrix, tokens, tokens)).not.toContain('\x1b');
  });

  test('wide characters and long tokens keep columns aligned', () => {
    const names = ['東京', 'extraordinarily-long', '👩‍👩‍👧 x'];
    const lines = renderHeatmap({ shape: [3, 3], data: new Float32Array(9).fill(1 / 3) }, names, names, {
      color: false,
      width: 60,
    }).split('\n');
    const rows = lines.filter((line) => line.endsWith('██████'));
    expect(rows).toHaveLength(3);
    expect(new Set(rows.map((row) => stringWidth(row)))).toEqual(new Set([14 + 1 + 6]));
    expect(rows[1]).toMatch(/^extraordinari…/);
  });

  test('what is larger than the terminal is down-sampled to its largest weights', () => {
    const size = 400;
    const weights = new Float32Array(size * size);
    weights[399 * size + 399] = 0.9;
    const lines = renderHeatmap({ shape: [size, size], data: weights }, [], [], { color: false, width: 80 }).split(
      '\n',
    );
    for (const line of lines) expect(stringWidth(line)).toBeLessThanOrEqual(80);
    expect(lines).toHaveLength(50);
    expect(lines[0]).toMatch(/^ +0 +\d+ +\d+/);
    expect(lines[48]).toMatch(/^391–399 +█$/);
    expect(lines[49]).toMatch(/0\.900$/);
  });

  test('K need not be Q, and control characters do no harm', () => {
    const text = renderHeatmap({ shape: [1, 2], data: [0.5, 0.5] }, ['\u001b[31m\n'], ['a', ' '], { color: false });
    expect(text.split('\n')).toEqual(['       a ␣', '�[31m↵ ████', '       0    ░░░▒▒▒▓▓▓███ 0.500']);
    expect(() => renderHeatmap({ shape: [1, 2, 1], data: [0, 1] }, [], [])).toThrow(/\[Q, K\] but received 2 elements/);
  });
});
