import type { Unseen } from '../core/unseen';
import { formatTable } from './table';

/** What looked like attention and could not be recorded, as a table; nothing where there is none. */
export function reportUnseen(unseen: readonly Unseen[]): string[] {
  if (!unseen.length) return [];
  const rows = unseen.map(({ name, operator, shape, reason }) => [
    name || '(no module left)',
    operator,
    `[${shape.join(', ')}]`,
    reason,
  ]);
  return [formatTable(['not recorded: module', 'operator', 'shape', 'reason'], rows)];
}
