import type { AttentionKind } from './view-data';

const SPECIAL =
  /^(\[(CLS|SEP|PAD|MASK|UNK|BOS|EOS|unused\d+)\]|<\/?(s|pad|unk|mask|cls|sep|bos|eos|BOS|EOS|start_of_turn|end_of_turn|extra_id_\d+)>|<\|[^|]*\|>)$/;
const PADDING = /^(\[PAD\]|<pad>|<\|pad\|>|<\|padding\|>|<\|finetune_right_pad_id\|>)$/;

/** Whether a token is one that a tokenizer adds, and not text. */
export function isSpecial(token: string): boolean {
  return SPECIAL.test(token);
}

/** The part of a sequence that is not padding: without the runs of padding at its ends. */
export function withoutPadding(length: number, isPadding: (i: number) => boolean): [number, number] {
  let from = 0;
  let to = length;
  while (to > from && isPadding(to - 1)) to--;
  while (from < to && isPadding(from)) from++;
  return to > from ? [from, to] : [0, length];
}

export function isPaddingToken(token: string | undefined): boolean {
  return token !== undefined && PADDING.test(token);
}

/** The different token lists of an example, each stored once. */
export class TokenLists {
  readonly lists: string[][] = [];

  /** The index of the first list that fits, of those that there are. */
  find(candidates: (readonly string[] | undefined)[], fits: (length: number) => boolean): number | undefined {
    const list = candidates.find((candidate) => candidate && fits(candidate.length));
    if (!list) return undefined;
    const known = this.lists.findIndex(
      (other) => other.length === list.length && other.every((token, i) => token === list[i]),
    );
    return known >= 0 ? known : this.lists.push([...list]) - 1;
  }
}

const CROSS_NAME = /cross|enc(oder)?_?dec(oder)?_?att|encoder_attn|src_attn|context_attn/i;

/** Tells from the names of modules, the shape and the mask whose attention it is. */
export function kindOf(
  attention: { name: string; rows: number; columns: number; queries: readonly number[]; causal: boolean },
  names: readonly string[],
): AttentionKind {
  const { name, rows, columns, queries } = attention;
  if (CROSS_NAME.test(name)) return 'cross';
  // nn.TransformerDecoderLayer calls its cross-attention multihead_attn, beside self_attn.
  if (/(^|\.)multihead_attn$/.test(name) && names.includes(name.replace(/multihead_attn$/, 'self_attn')))
    return 'cross';
  const whole = queries.every((query, row) => query === row);
  if (whole && rows > 1 && rows !== columns) return 'cross';
  if (/decoder/i.test(name)) return 'decoder';
  if (/encoder/i.test(name)) return 'encoder';
  return rows > 1 && attention.causal ? 'decoder' : 'encoder';
}
