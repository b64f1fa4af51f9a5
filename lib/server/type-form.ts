/** What a value of a type is made of, as far as tensors by name can stand for it. */
export type TypeForm =
  | { kind: 'tensor' }
  | { kind: 'scalar'; type: ScalarType }
  | { kind: 'optional'; of: TypeForm }
  | { kind: 'list'; of: TypeForm }
  | { kind: 'tuple'; of: TypeForm[] }
  | { kind: 'dict'; of: TypeForm }
  /** A class, a named tuple, or whatever else: its parts are told by the names that they are given. */
  | { kind: 'unknown'; text: string };

export type ScalarType = 'int' | 'float' | 'bool' | 'str';

const SCALARS: Record<string, ScalarType> = { int: 'int', float: 'float', number: 'float', bool: 'bool', str: 'str' };

/** Deeper types are left as they are written. */
const MAX_DEPTH = 64;

/** Reads the text of a TorchScript type: `Optional[List[Tuple[Tensor, Tensor]]]`. */
export function typeForm(text: string, depth = 0): TypeForm {
  const type = text.trim();
  if (type === 'Tensor') return { kind: 'tensor' };
  const scalar = SCALARS[type];
  if (scalar !== undefined && Object.hasOwn(SCALARS, type)) return { kind: 'scalar', type: scalar };
  const [, generic, inner] = /^(Optional|List|Tuple|Dict)\[(.*)\]$/s.exec(type) ?? [];
  if (generic === undefined || inner === undefined || depth >= MAX_DEPTH) return { kind: 'unknown', text: type };
  const parts = argumentsOf(inner);
  const last = (): TypeForm => typeForm(parts.at(-1) ?? '', depth + 1);
  switch (generic) {
    case 'Optional':
      return { kind: 'optional', of: last() };
    case 'List':
      return { kind: 'list', of: last() };
    case 'Dict':
      return { kind: 'dict', of: last() };
    default:
      return { kind: 'tuple', of: parts.filter((part) => part !== '()').map((part) => typeForm(part, depth + 1)) };
  }
}

/** `int, Dict[str, Tensor]` at the commas outside brackets. */
function argumentsOf(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; ++i) {
    if (text[i] === '[') ++depth;
    else if (text[i] === ']') --depth;
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return [...parts, text.slice(start).trim()];
}
