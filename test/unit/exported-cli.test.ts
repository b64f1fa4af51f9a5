import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensors, writeSafetensors } from '../../lib/formats/safetensors';
import { exportedTensors, programPath } from './exported-fixtures';

const ROOT = join(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'exported-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, NO_COLOR: '1' };
  return spawnSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...args], { encoding: 'utf8', env, cwd: folder });
}

/** Inputs of a case in a file, by the names of the program's leaves. */
async function inputsOf(name: string, leaves: Record<string, string>): Promise<string> {
  const tensors = await exportedTensors(name);
  const path = join(folder, `${name}.safetensors`);
  const entries = Object.entries(leaves).map(([leaf, tensor]) => ({ ...(tensors.get(tensor) as object), name: leaf }));
  await writeSafetensors(path, entries as unknown as Parameters<typeof writeSafetensors>[1], {});
  return path;
}

const bert = () => inputsOf('bert_sdpa', { attention_mask: 'run0.in.attention_mask', input_ids: 'run0.in.0' });

describe('inspect', () => {
  it('shows inputs, outputs, sizes and modules of an exported program', async () => {
    const { status, stdout, stderr } = run('inspect', programPath('bert_dynamic'), '--depth', '1');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(
      /^inputs\n {2}input_ids: int64 \[s\d+, s\d+\]\noutputs\n {2}output\.last_hidden_state: float32 \[s\d+, s\d+, \d+\]\n/m,
    );
    expect(stdout).toMatch(/^sizes\n( {2}s\d+ from \d+ to (8|16)\n){2}/m);
    expect(stdout).toMatch(/encoder +BertEncoder +[\d,]+ +(pre )?forward/);
  });

  it('lists operators, and the hooks that modules take', () => {
    const { stdout } = run('inspect', programPath('encoder_fused'));
    expect(stdout).toMatch(/^operator +in the graph\naten::_transformer_encoder_layer_fwd +2$/m);
    const json = JSON.parse(run('inspect', programPath('bert_sdpa'), '--json').stdout);
    expect(json.operators).toMatchObject({ 'aten::scaled_dot_product_attention': 2 });
    expect(json.operators).not.toHaveProperty('placeholder');
    expect(json.modules).toContainEqual(
      expect.objectContaining({ name: 'encoder.layer.1', hooks: expect.arrayContaining(['forward']) }),
    );
  });

  it('lists attention by module, and everything as JSON', async () => {
    const { status, stdout } = run('inspect', programPath('bert_sdpa'), '--inputs', await bert(), '--json');
    expect(status).toBe(0);
    const { program, attentionSites, parameters } = JSON.parse(stdout);
    expect(program.inputs.map(({ name }: { name: string }) => name)).toEqual(['input_ids', 'attention_mask']);
    expect(attentionSites.map(({ name }: { name: string }) => name)).toEqual([
      'encoder.layer.0.attention.self',
      'encoder.layer.1.attention.self',
    ]);
    expect(parameters).toBeGreaterThan(1000);
  });

  it('shows constants that inputs have to be', () => {
    expect(run('inspect', programPath('structures')).stdout).toMatch(/scale: float = 1\.5/);
  });
});

describe('capture', () => {
  it('writes the weights of an exported program', async () => {
    const out = join(folder, 'bert-attention.safetensors');
    const { status, stderr } = run('capture', programPath('bert_sdpa'), '--inputs', await bert(), '--out', out);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const { entries } = await readSafetensors(out);
    const tensors = await exportedTensors('bert_sdpa');
    const written = entries.find(({ name }) => name === 'attentions.0')?.data as Float32Array;
    const expected = (tensors.get('attention.0') as { data: Float32Array }).data;
    expect(written.length).toBe(expected.length);
    for (const [i, weight] of written.entries()) expect(Math.abs(weight - expected[i]!)).toBeLessThanOrEqual(1e-5);
  });

  it('names the input that is missing', async () => {
    const inputs = await inputsOf('bert_sdpa', { input_ids: 'run0.in.0' });
    const { status, stderr } = run(
      'capture',
      programPath('bert_sdpa'),
      '--inputs',
      inputs,
      '--out',
      join(folder, 'x.safetensors'),
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/attention_mask.*ERR_INVALID_ARGUMENT/);
    expect(existsSync(join(folder, 'x.safetensors'))).toBe(false);
  });
});
