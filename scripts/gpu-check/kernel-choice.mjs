import { KERNELS, title } from './kernels.mjs';

/** The calls of checks/kernels.mjs for sdpa_choice.py. */
export const KERNELS_AS_JSON = JSON.stringify(KERNELS);

/** What sdpa_choice.py answered, by call; where it could not be run, that. */
export function readChoices(line) {
  if (!line.startsWith('[')) return { 'every call': `unknown: ${line}` };
  const chosen = JSON.parse(line);
  return Object.fromEntries(KERNELS.map((each, i) => [title(each), chosen[i]]));
}
