import { spawnSync } from 'node:child_process';
import { DIST } from './built-process';

/** What a run of the nested tensor's path, which libtorch warns of, writes to stderr. */
function written(level?: string): string {
  const script = `
    const { nn, Tensor } = require(${JSON.stringify(DIST)});
    const layer = new nn.TransformerEncoderLayer({ dModel: 4, nhead: 2, dimFeedforward: 4, batchFirst: true });
    const mask = Tensor.from([[false, false, true], [false, false, false]]);
    new nn.TransformerEncoder(layer, 1).eval().forward(Tensor.zeros([2, 3, 4]), { srcKeyPaddingMask: mask });
  `;
  const { TORCH_CPP_LOG_LEVEL: _, ...env } = process.env;
  if (level !== undefined) env.TORCH_CPP_LOG_LEVEL = level;
  const { status, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', env });
  expect(status).toBe(0);
  return stderr;
}

describe('TORCH_CPP_LOG_LEVEL', () => {
  test('is read as Python reads it: warnings of libtorch are written unless it is above them', () => {
    expect(written()).toContain('Warning: The PyTorch API of nested tensors');
    expect(written('WARNING')).toContain('Warning: The PyTorch API of nested tensors');
    expect(written('ERROR')).toBe('');
  });
});
