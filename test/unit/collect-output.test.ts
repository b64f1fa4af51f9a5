import type { Entry } from '../../lib/formats/entry';
import { Tensor, type Value } from '../../lib/index';
import { collectOutput } from '../../lib/io/collect-output';

/** What a file gets of an output. */
function collected(output: Value): { names: string[]; metadata: Record<string, string> } {
  const entries: Entry[] = [];
  const metadata: Record<string, string> = {};
  collectOutput('output', output, entries, metadata);
  return { names: entries.map(({ name }) => name), metadata };
}

const tensor = Tensor.from([1, 2]);

describe('the output in the file of a capture', () => {
  test('a tensor, and those of lists and dictionaries by their place', () => {
    expect(collected(tensor)).toEqual({ names: ['output'], metadata: {} });
    expect(collected({ a: [tensor, { b: tensor }], n: 3, none: null })).toEqual({
      names: ['output.a.0', 'output.a.1.b'],
      metadata: { 'output.n': '3', 'output.none': 'null' },
    });
  });

  test('a named tuple once, by its fields', () => {
    const item = Object.assign([tensor, 5], { hidden: tensor, length_: 5 });
    expect(collected([item as Value])).toEqual({
      names: ['output.0.hidden'],
      metadata: { 'output.0.length_': '5' },
    });
  });

  test('a dictionary whose keys are no strings', () => {
    expect(collected(new Map<number, Value>([[7, tensor]]) as Value)).toEqual({ names: ['output.7'], metadata: {} });
  });
});
