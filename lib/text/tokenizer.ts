import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TorchError } from '../core/errors';
import { shortened } from '../core/validate';
import { readJsonValue } from '../formats/json';
import { isSpecial } from '../view/axis-tokens';

/** A text as a model takes it. */
export interface Encoded {
  ids: number[];
  typeIds: number[];
  /** The tokens as a person reads them. */
  tokens: string[];
  /** By position, what stood in the text where the token is the one for unknown words. */
  sources: Record<number, string>;
  /** Ones, and zeros where tokens are padding. Ones alone where it is undefined. */
  mask?: number[];
}

interface Tokenizer {
  token_to_id(token: string): number | undefined;
  encode(
    text: string,
    options: { text_pair?: string; add_special_tokens?: boolean; return_token_type_ids: true },
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
    /** The id of the token that stands for nothing; undefined where there is none. */
    readonly paddingId: number | undefined,
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
      const tokenizer = new Implementation(definition, config);
      const byteLevel = /"type":"ByteLevel"/.test(JSON.stringify(definition));
      return new TextTokenizer(tokenizer, byteLevel, paddingIdOf(definition, config, tokenizer));
    } catch (error) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected the tokenizer.json of a Hugging Face fast tokenizer but ${path} can't be used: ${(error as Error).message}`,
        { cause: error },
      );
    }
  }

  /** A text, or a pair of texts, with the special tokens that the tokenizer adds. */
  encode(text: string, pair?: string): Encoded {
    const { ids, tokens, token_type_ids: typeIds } = this.run(text, pair === undefined ? {} : { text_pair: pair });
    return {
      ids,
      typeIds: typeIds ?? ids.map(() => 0),
      tokens: ids.map((id) => this.label(id)),
      sources: this.sourcesOf(tokens, [text, ...(pair === undefined ? [] : [pair])].join(' ')),
    };
  }

  /**
   * What stood where a token is that of unknown words: the words of the text that become just that token, in order. Where
   * their number isn't that of such tokens, nothing is said.
   */
  private sourcesOf(tokens: readonly string[], text: string): Record<number, string> {
    const places = tokens.flatMap((token, i) => (UNKNOWN.test(token) ? [i] : []));
    if (!places.length) return {};
    const words = (text.match(/[\p{L}\p{N}\p{M}_]+|[^\s\p{L}\p{N}\p{M}_]/gu) ?? []).filter((word) => {
      const { tokens: own } = this.run(word, { add_special_tokens: false });
      return own.length === 1 && UNKNOWN.test(own[0] as string);
    });
    if (words.length !== places.length) return {};
    return Object.fromEntries(places.map((place, i) => [place, words[i] as string]));
  }

  private run(text: string, options: { text_pair?: string; add_special_tokens?: boolean }) {
    let encoded: ReturnType<Tokenizer['encode']>;
    try {
      encoded = this.tokenizer.encode(text, { ...options, return_token_type_ids: true });
    } catch (error) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a tokenizer that can encode the text but it fails: ${shortened((error as Error).message)}`,
        { cause: error },
      );
    }
    const { ids, tokens } = encoded;
    const unknown = (ids as (number | undefined)[]).indexOf(undefined);
    if (unknown >= 0) {
      const received = `'${tokens[unknown]}', and it has no token for unknown ones`;
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a text of the tokenizer's vocabulary but received ${received}`,
      );
    }
    return encoded;
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

/** Which token pads, as the tokenizer's files say, or its name. */
function paddingIdOf(definition: object, config: object, tokenizer: Tokenizer): number | undefined {
  const { padding } = definition as { padding?: { pad_id?: unknown } | null };
  if (typeof padding?.pad_id === 'number') return padding.pad_id;
  const { pad_token: given } = config as { pad_token?: string | { content?: string } | null };
  const named = typeof given === 'object' ? given?.content : given;
  const names = [...(named === undefined ? [] : [named]), '[PAD]', '<pad>', '<|pad|>'];
  return names.map((name) => tokenizer.token_to_id(name)).find((id) => id !== undefined);
}

/** A text with padding behind it, masked out, up to a length of at least its own. */
export function padded(encoded: Encoded, length: number, paddingId: number): Encoded {
  const { ids, typeIds, tokens, sources } = encoded;
  const more = <Element>(element: Element) => new Array<Element>(length - ids.length).fill(element);
  return {
    ids: [...ids, ...more(paddingId)],
    typeIds: [...typeIds, ...more(0)],
    tokens: [...tokens, ...more('')],
    sources,
    mask: [...ids.map(() => 1), ...more(0)],
  };
}

/** How tokenizers write the token of unknown words. */
const UNKNOWN = /^(\[UNK\]|<unk>|<\|unk\|>)$/;

/**
 * A decoder's text as the model takes it: behind the token that begins every output, and without the one that ends it.
 * @param start The id of the token that a decoder begins with (`decoder_start_token_id` of a model's config).
 */
export function withDecoderStart(encoded: Encoded, start: number, label: string): Encoded {
  const { ids, typeIds, tokens, sources } = encoded;
  const end = isSpecial(tokens.at(-1) ?? '') ? ids.length - 1 : ids.length;
  return {
    ids: [start, ...ids.slice(0, end)],
    typeIds: [0, ...typeIds.slice(0, end)],
    tokens: [label, ...tokens.slice(0, end)],
    sources: Object.fromEntries(Object.entries(sources).map(([at, source]) => [Number(at) + 1, source])),
  };
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
