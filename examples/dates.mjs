// What the examples share: the checkpoint of this folder, and its alphabet.
import { readFileSync } from 'node:fs';
import { ScriptModule, Tensor } from '../dist/index.js';

const here = new URL('.', import.meta.url);
const { source, target } = JSON.parse(readFileSync(new URL('vocabulary.json', here), 'utf8'));

export const loadModel = () => ScriptModule.load(readFileSync(new URL('dates.pt', here)));

/** Inputs of `forward` for a date and what has been written of the answer: int64 [1, S] and [1, T]. */
export function inputsFor(text, written = '') {
  const indices = (list) => Tensor.from(BigInt64Array.from(list, BigInt), { shape: [1, list.length] });
  return [
    indices([...text].map((character) => source.indexOf(character))),
    indices([0, ...[...written].map((character) => target.indexOf(character))]),
  ];
}

/** The character that the model would write next, of logits [1, T, 12]. */
export function nextCharacter(logits) {
  const last = logits.select(0, 0).select(0, logits.shape[1] - 1);
  return target[Number(last.argmax().item())];
}
