import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TorchError } from '../errors';
import type { Entry } from '../formats/entry';
import { readJsonValue } from '../formats/json';
import { shortened } from '../validate';
import { isOptional, type Parameter } from './inputs';

/** A text as a model takes it. */
export interface Encoded {
  ids: number[];
  typeIds: number[];
  /** The tokens as a person reads them. */
  tokens: string[];
}

interface Tokenizer {
  encode(
    text: string,
    options: { return_token_type_ids: true },
  ): { ids: number[]; tokens: string[]; token_type_ids?: number[] };
  decode(ids: number[], options: object): string;
  id_to_token(id: number): string | undefined;
}

/** A Hugging Face tokenizer, from its tokenizer.json and, where there is one beside it, its tokenizer_config.json. */
export class TextTokenizer {
  private constructor(
    private readonly tokenizer: Tokenizer,
    /** Whether tokens are spelt in the byte alphabet of GPT-2, which nobody reads. */
    private readonly byteLevel: boolean,
  ) {}

  static async load(path: string): Promise<TextTokenizer> {
    const definition = await readJsonFile(path);
    const configPath = join(dirname(path), 'tokenizer_config.json');
    const config = existsSync(configPath) ? await readJsonFile(configPath) : {};
    // The package is an ES module; this keeps working where it has no CommonJS build.
    const { Tokenizer: Implementation } = (await import('@huggingface/tokenizers')) as unknown as {
      Tokenizer: new (definition: object, config: object) => Tokenizer;
    };
    try {
      return new TextTokenizer(
        new Implementation(definition, config),
        /"type":"ByteLevel"/.test(JSON.stringify(definition)),
      );
    } catch (error) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected the tokenizer.json of a Hugging Face fast tokenizer but ${path} can't be used: ${(error as Error).message}`,
        { cause: error },
      );
    }
  }

  /** A text with the special tokens that the tokenizer adds. */
  encode(text: string): Encoded {
    let encoded: ReturnType<Tokenizer['encode']>;
    try {
      encoded = this.tokenizer.encode(text, { return_token_type_ids: true });
    } catch (error) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a tokenizer that can encode the text but it fails: ${shortened((error as Error).message)}`,
        { cause: error },
      );
    }
    const { ids, tokens, token_type_ids: typeIds } = encoded;
    const unknown = (ids as (number | undefined)[]).indexOf(undefined);
    if (unknown >= 0) {
      const received = `'${tokens[unknown]}', and it has no token for unknown ones`;
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a text of the tokenizer's vocabulary but received ${received}`,
      );
    }
    return { ids, typeIds: typeIds ?? ids.map(() => 0), tokens: ids.map((id) => this.label(id)) };
  }

  /** A token as a person reads it. */
  label(id: number): string {
    const token = this.tokenizer.id_to_token(id) ?? `#${id}`;
    if (!this.byteLevel) return token.replaceAll('▁', ' ');
    const text = this.tokenizer.decode([id], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    // A part of a character decodes to nothing readable.
    return text === '' || text.includes('\ufffd') ? token : text;
  }
}

const ROLES: [RegExp, keyof Roles][] = [
  [/^decoder_(input_)?ids$/, 'decoderIds'],
  [/^decoder_attention_mask$/, 'decoderMask'],
  [/^(input_)?ids$|^tokens$|^input$|^src$/, 'ids'],
  [/mask$/, 'mask'],
  [/^(token_)?type_ids$|^segment_ids$/, 'typeIds'],
  [/^position_ids$|^positions$/, 'positions'],
];

interface Roles {
  ids: number[];
  mask: number[];
  typeIds: number[];
  positions: number[];
  decoderIds: number[];
  decoderMask: number[];
}

/**
 * What a model's forward asks for, from a text (and the decoder's, for encoder-decoder models): by its parameters'
 * names, and where they say nothing, in the order ids, mask, type ids, positions. Optional ones that say nothing stay
 * away.
 */
export function buildTextInputs(parameters: readonly Parameter[], text: Encoded, decoderText?: Encoded): Entry[] {
  const values: Partial<Roles> = {
    ids: text.ids,
    mask: text.ids.map(() => 1),
    typeIds: text.typeIds,
    positions: text.ids.map((_, i) => i),
    ...(decoderText && { decoderIds: decoderText.ids, decoderMask: decoderText.ids.map(() => 1) }),
  };
  const roleOf = ({ name }: Parameter) => ROLES.find(([pattern]) => pattern.test(name))?.[1];
  const taken = new Set(parameters.map(roleOf));
  const free = (['ids', 'mask', 'typeIds', 'positions'] as const).filter((role) => !taken.has(role));
  return parameters.flatMap((parameter) => {
    const named = roleOf(parameter);
    if (!named && isOptional(parameter)) return [];
    const role = named ?? free.shift();
    const data = role && values[role];
    if (data) {
      return [
        {
          name: parameter.name,
          dtype: 'int64' as const,
          shape: [1, data.length],
          data: BigInt64Array.from(data, BigInt),
        },
      ];
    }
    if (isOptional(parameter)) return [];
    const remedy = role?.startsWith('decoder') ? "give the decoder's text with --decoder-text" : 'use --inputs';
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a model that takes tokens but its forward also asks for '${parameter.name}' (${parameter.type}); ${remedy}`,
    );
  });
}

async function readJsonFile(path: string): Promise<object> {
  try {
    const value = await readJsonValue(path);
    if (typeof value === 'object' && value !== null) return value;
    throw new Error('it holds no JSON object');
  } catch (error) {
    const message = `Expected a tokenizer in JSON in ${path}: ${(error as Error).message}`;
    throw new TorchError('ERR_INVALID_ARGUMENT', message, { cause: error });
  }
}
