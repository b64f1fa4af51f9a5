/**
 * What looked like attention in a run and could not be recorded.
 *
 * @example
 * const report = ({ name, operator, reason }: Unseen) => `${operator} in ${name}: ${reason}`;
 */
export interface Unseen {
  /** Dotted name of the module; `''` where the checkpoint has no modules left (frozen). */
  name: string;
  /** The operator: that of a softmax, or of the product that the scores come from. */
  operator: string;
  /** Of what the operator gave. */
  shape: number[];
  /** Why it isn't recorded. */
  reason: string;
}
