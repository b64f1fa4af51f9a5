import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { type AttentionSite, ScriptModule, setNumThreads, Tensor, type Unseen } from '../../lib/index';

// What a capture sees of a model is the same in each of its runs, in the first of which libtorch profiles and compiles,
// and with whatever the model was loaded.
const FORMS = join(__dirname, '..', 'fixtures', 'forms');
const LOADS = [{}, { optimize: true }, { optimize: true, fuse: true }];

let input: Tensor;

beforeAll(async () => {
  setNumThreads(1);
  const { entries } = await readSafetensors(join(FORMS, 'forms.safetensors'));
  const given = entries.find(({ name }) => name === 'input') as (typeof entries)[number];
  input = Tensor.from(given.data, { shape: given.shape });
});

/** The attentions of a run, and what it lists beside them. */
async function seen(model: ScriptModule): Promise<unknown[]> {
  const recorded = ({ name, operator, kind, shape, headsKnown }: AttentionSite) => [
    name,
    operator,
    kind,
    shape,
    headsKnown,
  ];
  const listed = ({ name, operator, shape }: Unseen) => [name, operator, shape];
  try {
    const sites = await model.attentionSites([input]);
    return [...sites.map(recorded), ...sites.unseen.map(listed)];
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_NO_ATTENTION' });
    return (error as { unseen: Unseen[] }).unseen.map(listed);
  }
}

test.each(readdirSync(FORMS).filter((name) => name.endsWith('.pt')))('%s', async (file) => {
  const results: unknown[][] = [];
  for (const options of LOADS) {
    using model = await ScriptModule.load(join(FORMS, file), options);
    for (let run = 0; run < 3; run++) results.push(await seen(model));
  }
  for (const result of results) expect(result).toEqual(results[0]);
});
