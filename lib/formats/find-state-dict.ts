import { shortened } from '../core/validate';
import { malformed } from './entry';
import { Opaque } from './pickle';
import { ForeignTensor, SavedTensor } from './saved-tensors';

/** What is looked for in a checkpoint. */
export interface Wanted {
  /** Names begin with it there. */
  prefix: string;
  /** The names behind it. */
  names: ReadonlySet<string>;
}

/** Keys under which training scripts keep the state dictionary of a model among other things. */
const USUAL = ['state_dict', 'model_state_dict', 'model', 'module', 'net'];

export type SavedStateDict = Map<string, SavedTensor | ForeignTensor>;

interface Candidate {
  /** The keys that lead to it: none for what was saved itself. */
  path: string[];
  tensors: SavedStateDict;
}

/** How deep in others a dictionary of tensors is looked for. */
const MAX_DEPTH = 64;

/** All dictionaries that hold tensors, in others or not: outer ones first, those under usual keys before others. */
function candidatesIn(saved: unknown): Candidate[] {
  const found: Candidate[] = [];
  const seen = new Set<unknown>();
  let level: [string[], unknown][] = [[[], saved]];
  for (let depth = 0; level.length > 0 && depth < MAX_DEPTH; ++depth) {
    const inner: typeof level = [];
    for (const [path, value] of level) {
      if (!(value instanceof Map) || seen.has(value)) continue;
      seen.add(value);
      const tensors: SavedStateDict = new Map();
      for (const [key, item] of value) {
        if (item instanceof SavedTensor || item instanceof ForeignTensor) {
          if (typeof key === 'string') tensors.set(key, item);
        } else if (typeof key === 'string' || typeof key === 'number') {
          inner.push([[...path, String(key)], item]);
        }
      }
      if (tensors.size > 0) found.push({ path, tensors });
    }
    const place = ([path]: [string[], unknown]): number => {
      const usual = USUAL.indexOf(path.at(-1) as string);
      return usual < 0 ? USUAL.length : usual;
    };
    level = inner.sort((a, b) => place(a) - place(b));
  }
  return found;
}

/** How well a dictionary fits: 3 where it has the wanted names and no others, 2 all of them, 1 some, 0 none. */
function fitness({ tensors }: Candidate, { prefix, names }: Wanted): number {
  let below = 0;
  let wanted = 0;
  for (const name of tensors.keys()) {
    if (!name.startsWith(prefix)) continue;
    ++below;
    if (names.has(name.slice(prefix.length))) ++wanted;
  }
  return wanted === 0 ? 0 : wanted < names.size ? 1 : wanted < below ? 2 : 3;
}

function keyShown(key: unknown): string {
  return typeof key === 'string' ? shortened(key) : typeof key === 'number' ? String(key) : 'an object';
}

function describe({ path, tensors }: Candidate): string {
  const [first] = tensors.keys();
  return `${shortened(path.join('.')) || 'the outermost'} (${tensors.size} tensors: ${shortened(String(first))}${tensors.size > 1 ? ', …' : ''})`;
}

/**
 * Finds the state dictionary in what was saved: it itself, or the one in it that has the wanted names. Where several do,
 * those outside and under usual keys (`state_dict`, `model`) come first, then those that fit better.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT where there is none, or no telling which of several is meant.
 */
export function findStateDict(saved: unknown, path: string, wanted: Wanted): SavedStateDict {
  const candidates = candidatesIn(saved);
  const isUsual = (candidate: Candidate) => candidate.path.every((key) => USUAL.includes(key));
  const best = (among: Candidate[]): Candidate[] => {
    const most = Math.max(...among.map((each) => fitness(each, wanted)));
    return among.filter((each) => fitness(each, wanted) === most);
  };
  const fitting = candidates.filter((each) => fitness(each, wanted) > 0);
  const [usual] = best(fitting.filter(isUsual));
  if (usual) return usual.tensors;
  // Where none fits, the one that is likely meant, whose names the caller then compares.
  const likely = candidates.filter((each) => isUsual(each) && each.path.length > 0);
  const left = fitting.length > 0 ? best(fitting) : likely.length > 0 ? likely.slice(0, 1) : candidates;
  const [only] = left;
  if (only && left.length === 1) return only.tensors;

  const expected = `a dictionary of tensors, or one that has such a dictionary in it (as ${USUAL.join(', ')} or another)`;
  if (only) {
    const where = wanted.prefix === '' ? '' : ` below '${wanted.prefix}'`;
    const shown = left.slice(0, 8).map(describe);
    const those = fitting.length > 0 ? 'several that have' : 'several that have none of';
    throw malformed(
      path,
      expected,
      `${those} the names of this module${where}: ${shown.join(', ')}${left.length > 8 ? ', …' : ''}`,
    );
  }
  const received =
    saved instanceof Map
      ? `one with ${saved.size === 0 ? 'nothing' : [...saved.keys()].slice(0, 8).map(keyShown).join(', ')}`
      : saved instanceof Opaque
        ? `an object of ${shortened(saved.type)}: save its state_dict() instead`
        : 'something else';
  throw malformed(path, expected, received);
}
