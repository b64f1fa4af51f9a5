import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';
import { isOptional, type Parameter } from '../io/parameters';
import type { Encoded } from './tokenizer';

/** What of a text a parameter may be given, and how it is said. */
const ROLES = {
  ids: 'token ids',
  mask: 'ones',
  typeIds: 'segment ids',
  positions: 'positions',
  decoderIds: "the decoder's token ids",
  decoderMask: 'ones',
} as const;

type Role = keyof typeof ROLES;

/** The names that parameters of a role have. What looks like one of them may be something else: masks of padding, of heads. */
const NAMES: [RegExp, Role][] = [
  [/^(decoder_input_ids|decoder_ids|tgt)$/, 'decoderIds'],
  [/^decoder_attention_mask$/, 'decoderMask'],
  [/^(input_ids|ids|token_ids|tokens|input|inputs|src|source|x)$/, 'ids'],
  [/^(attention_mask|input_mask|mask)$/, 'mask'],
  [/^(token_type_ids|type_ids|segment_ids)$/, 'typeIds'],
  [/^(position_ids|positions)$/, 'positions'],
];

/** The names that tracing makes up, which say nothing: roles go to them by position. */
const MADE_UP = /^(arguments?|args?|inputs?|x)[._]?\d+$/;

/** The roles by position: the order of Hugging Face's models. */
const ORDER = ['ids', 'mask', 'typeIds', 'positions'] as const;

/** The role that a parameter's name says. */
function nameOf({ name }: Parameter): Role | undefined {
  return NAMES.find(([pattern]) => pattern.test(name))?.[1];
}

/** Whether forward takes a mask of the decoder's tokens, so that these can be padded. */
export function takesDecoderMask(parameters: readonly Parameter[]): boolean {
  return parameters.some((parameter) => nameOf(parameter) === 'decoderMask');
}

/** The inputs of a model for a text, and what each parameter was given, in words. */
export interface TextInputs {
  inputs: Entry[];
  given: string[];
  /** Whether one of them is a mask. */
  masked: boolean;
}

/**
 * What a model's forward asks for, from a text (and the decoder's, for encoder-decoder models): by its parameters' names, and
 * by position where tracing made up the names, in the order ids, mask, type ids, positions. The first parameter takes the ids
 * where none has a name for them. Optional ones that say nothing stay away; what else there is has to be given.
 *
 * @param given What the user gave by name, which goes ahead of all that.
 */
export function buildTextInputs(
  parameters: readonly Parameter[],
  text: Encoded,
  decoderText?: Encoded,
  given: ReadonlyMap<string, Entry> = new Map(),
): TextInputs {
  const values: Partial<Record<Role, number[]>> = {
    ids: text.ids,
    mask: text.mask ?? text.ids.map(() => 1),
    typeIds: text.typeIds,
    positions: text.ids.map((_, i) => i),
    ...(decoderText && { decoderIds: decoderText.ids, decoderMask: decoderText.mask ?? decoderText.ids.map(() => 1) }),
  };
  const open = parameters.filter(({ name }) => !given.has(name));
  const named = new Set(open.map(nameOf));
  if (
    decoderText &&
    !named.has('decoderIds') &&
    !parameters.some(({ name }) => given.has(name) && /^decoder_/.test(name))
  ) {
    const names = parameters.map(({ name }) => name).join(', ');
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a model with a decoder for --decoder-text but received one whose forward takes ${names}`,
    );
  }
  const free = ORDER.filter((role) => !named.has(role));
  const built: TextInputs = { inputs: [], given: [], masked: false };
  const wanted: Parameter[] = [];
  for (const parameter of parameters) {
    const { name } = parameter;
    const own = given.get(name);
    if (own) {
      built.inputs.push(own);
      built.given.push(`${name}: --input`);
      continue;
    }
    const first = parameter === open[0] && free[0] === 'ids';
    const byName = nameOf(parameter);
    if (!byName && isOptional(parameter)) continue;
    const role = byName ?? (first || MADE_UP.test(name) ? free.shift() : undefined);
    const data = role && takesTensor(parameter) ? values[role] : undefined;
    if (role && data) {
      const entry = { name, dtype: 'int64' as const, shape: [1, data.length], data: BigInt64Array.from(data, BigInt) };
      built.inputs.push(entry);
      built.masked ||= role === 'mask';
      built.given.push(`${name}: ${ROLES[role]}${byName ? '' : ' (by position)'}`);
    } else if (role?.startsWith('decoder') && !isOptional(parameter)) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected the decoder's text for '${name}' but received none: give it with --decoder-text`,
      );
    } else if (!isOptional(parameter)) {
      wanted.push(parameter);
    }
  }
  if (wanted.length > 0) throw askFor(wanted);
  return built;
}

function takesTensor({ type }: Parameter): boolean {
  return /^(Optional\[)?Tensor\b/.test(type);
}

/** The error for parameters that no text says anything about. */
function askFor(wanted: readonly Parameter[]): TorchError {
  const list = wanted.map(({ name, type }) => `'${name}' (${type})`).join(', ');
  const tensors = wanted.filter(takesTensor);
  const remedy =
    tensors.length === wanted.length
      ? `say what ${tensors.length > 1 ? 'they are' : 'it is'}: ${tensors.map(({ name }) => `--input ${name}=zeros`).join(' ')} ` +
        '(or ones, or numbers), or give all inputs with --inputs'
      : 'give all inputs with --inputs';
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a model that takes tokens but its forward also asks for ${list}, which a text says nothing about; ${remedy}`,
  );
}
