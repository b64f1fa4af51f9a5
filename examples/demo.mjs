// Reads dates as people write them and shows where the model looks: npm run demo -- "12 May 2021" "the 9th of nov '89"
import { readFileSync, writeFileSync } from 'node:fs';
import { ScriptModule, Tensor, versions } from '../dist/index.js';
import { renderHeatmap } from '../dist/view/heatmap.js';
import { DEFAULT_MAX_SIZE, renderExamples } from '../dist/view/render-view.js';

const here = new URL('.', import.meta.url);
const readJson = (name) => JSON.parse(readFileSync(new URL(name, here), 'utf8'));
const vocabulary = readJson('vocabulary.json');
const heldOut = readJson('held-out.json');
const sourceIndex = new Map(vocabulary.source.map((character, index) => [character, index]));

/** Why the model can't read `text`, or undefined. */
function unreadable(text) {
  const unknown = [...new Set(text)].filter((character) => !sourceIndex.has(character));
  if (unknown.length > 0) {
    return `it knows letters a-z, digits, spaces and , . / - ' but not ${unknown.map((character) => `"${character}"`).join(', ')}`;
  }
  if (text.length === 0) return 'it is empty';
  if (text.length > vocabulary.maxSourceLength)
    return `it has ${text.length} characters, more than ${vocabulary.maxSourceLength}`;
  return undefined;
}

/** int64 [B, longest], shorter texts padded with zeros. */
function encode(texts) {
  const longest = Math.max(...texts.map((text) => text.length));
  const rows = new BigInt64Array(texts.length * longest);
  texts.forEach((text, row) => {
    [...text].forEach((character, column) => {
      rows[row * longest + column] = BigInt(sourceIndex.get(character));
    });
  });
  return Tensor.from(rows, { shape: [texts.length, longest] });
}

/** The answers of the model, decoded greedily by its own `translate`. */
async function translate(model, texts) {
  const answers = await model.forward([encode(texts)], { method: 'translate' });
  const [count, length] = answers.shape;
  const indices = Array.from(answers.toTypedArray(), Number);
  return Array.from({ length: count }, (_, row) =>
    indices
      .slice(row * length, (row + 1) * length)
      .map((index) => vocabulary.target[index])
      .join(''),
  );
}

/** Every attention of the model writing `answer`: it is given what it has written so far at each step. */
async function capture(model, text, answer) {
  const written = [0, ...[...answer].slice(0, -1).map((character) => vocabulary.target.indexOf(character))];
  const target = Tensor.from(BigInt64Array.from(written, BigInt), { shape: [1, written.length] });
  const { attentions } = await model.captureAttention([encode([text]), target]);
  return attentions.map(({ name, operator, weights, heads, queries }) => ({
    name,
    operator,
    heads,
    queries,
    weights: { shape: weights.shape, data: weights.toTypedArray() },
  }));
}

/**
 * The head whose rows differ most: the mutual information of query and key, the entropy of the mean row less the mean
 * entropy of the rows. A head that looks at one place always, or everywhere at once, scores nothing.
 */
function mostTellingHead({ shape: [, heads, queries, keys], data }) {
  const entropy = (row) => row.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
  const score = (head) => {
    const rows = Array.from({ length: queries }, (_, query) => {
      const start = (head * queries + query) * keys;
      return Array.from(data.subarray(start, start + keys));
    });
    const mean = Array.from({ length: keys }, (_, key) => rows.reduce((sum, row) => sum + row[key], 0) / queries);
    return entropy(mean) - rows.reduce((sum, row) => sum + entropy(row), 0) / queries;
  };
  const scores = Array.from({ length: heads }, (_, head) => score(head));
  return scores.indexOf(Math.max(...scores));
}

/** Reads the 1,000 held-out dates and says how many come out right. */
async function readHeldOut() {
  const started = performance.now();
  const batches = Array.from({ length: 4 }, (_, i) => heldOut.slice(i * 250, (i + 1) * 250));
  let correct = 0;
  for (const batch of batches) {
    const answers = await translate(
      model,
      batch.map(([text]) => text),
    );
    correct += answers.filter((answer, i) => answer === batch[i][1]).length;
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const share = ((100 * correct) / heldOut.length).toFixed(1);
  console.log(
    `Held-out dates, never seen in training: ${correct} of ${heldOut.length} right (${share} %), read in ${seconds} s.`,
  );
}

// All of them from held-out.json: the model never saw these dates.
const SHOWN = ['sunday, 8th dec 1991', '21st of March, 1981', "6 June '24", '02.01.1952', 'Friday, 24th of June 2022'];
const known = new Map(heldOut);
const given = process.argv.slice(2).map((text) => text.trim());
const texts = given.length > 0 ? given : SHOWN;
const readable = texts.filter((text) => {
  const reason = unreadable(text);
  if (reason) console.error(`The model can't read "${text}": ${reason}.`);
  return !reason;
});
if (readable.length === 0) process.exit(1);

const model = await ScriptModule.load(readFileSync(new URL('dates.pt', here)));
console.log(`examples/dates.pt on libtorch ${versions.libtorch}\n`);

const examples = [];
for (const text of readable) {
  const [answer] = await translate(model, [text]);
  const right = known.get(text);
  const verdict = right === undefined ? '' : right === answer ? '  (right)' : `  (wrong: it is ${right})`;
  console.log(`${text}  →  ${answer}${verdict}`);
  const attentions = await capture(model, text, answer);
  examples.push({ title: `${text} → ${answer}`, attentions, tokens: [...text], targetTokens: [...answer] });
}

const last = examples.at(-1);
const cross = last.attentions.find(({ name }) => name.endsWith('multihead_attn'));
const [, , queries, keys] = cross.weights.shape;
const head = mostTellingHead(cross.weights);
const matrix = cross.weights.data.subarray(head * queries * keys, (head + 1) * queries * keys);
console.log(`\nWhere the decoder looks (across) while it writes (down): ${cross.name}, head ${head}\n`);
console.log(renderHeatmap({ shape: [queries, keys], data: matrix }, last.targetTokens, last.tokens));

const page = 'attention.html';
writeFileSync(
  page,
  await renderExamples(examples, { title: 'Dates as people write them', maxSize: DEFAULT_MAX_SIZE, compare: false }),
);
const count = last.attentions.reduce((sum, { heads }) => sum + heads.length, 0);
console.log(`\nAll ${last.attentions.length} attentions with ${count} heads are in ${page}: open it in a browser.`);

if (given.length === 0) await readHeldOut();
model.dispose();
