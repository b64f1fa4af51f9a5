import { type Attention, type AttentionWithoutWeights, descriptionOf, namedTensorsOf } from '../capture/attention';
import type { CaptureOptions } from '../capture/capture-options';
import { options as checkOptions, elements, invalid, isPlainObject } from '../core/validate';
import type { InferRequest } from './infer-request';
import { type WireOutput, wireTensorOf } from './infer-response';

/** What a request may say of the attention that it wants. Patterns aren't among it: they could take for ever. */
const OPTIONS = [
  'layers',
  'heads',
  'queries',
  'averageHeads',
  'topK',
  'weights',
  'scores',
  'logSumExp',
  'statistics',
] as const;

export type RequestedCapture = Pick<CaptureOptions, (typeof OPTIONS)[number] | 'maxBytes'>;

/** The attention that the parameter `attention` of a request asks for: `true` for all, or an object; undefined for none. */
export function requestedCapture({ parameters }: InferRequest, maxBytes: number): RequestedCapture | undefined {
  const { attention } = parameters;
  if (attention === undefined || attention === false) return undefined;
  if (attention === true) return { maxBytes };
  if (!isPlainObject(attention)) throw invalid('an object, or true,', 'the parameter attention', attention);
  return { ...checkOptions(attention as RequestedCapture, OPTIONS, 'the parameter attention'), maxBytes };
}

/** How a page shows what a request asks for. */
export function viewOf({ parameters }: InferRequest): { tokens?: string[]; targetTokens?: string[]; title?: string } {
  const texts = (name: 'tokens' | 'target_tokens'): string[] | undefined =>
    parameters[name] === undefined
      ? undefined
      : elements(parameters[name], 'an array of strings', `the parameter ${name}`, (token) => {
          if (typeof token !== 'string') throw invalid('a string', `an element of the parameter ${name}`, token);
          return token;
        });
  const { title } = parameters;
  if (title !== undefined && typeof title !== 'string') throw invalid('a string', 'the parameter title', title);
  const [tokens, targetTokens] = [texts('tokens'), texts('target_tokens')];
  return { ...(tokens && { tokens }), ...(targetTokens && { targetTokens }), ...(title !== undefined && { title }) };
}

/** The outputs `attention.<index>…` of an attention, which is given back; what it is stands with the first of them. */
export async function attentionOutputs(attention: AttentionWithoutWeights & Partial<Attention>): Promise<WireOutput[]> {
  const outputs: WireOutput[] = [];
  for (const [suffix, tensor] of namedTensorsOf(attention)) {
    const parameters = outputs.length === 0 ? { parameters: descriptionOf(attention) } : {};
    const name = `attention.${attention.index}${suffix}`;
    outputs.push({ name, tensor: await wireTensorOf(tensor, name), ...parameters });
    tensor.dispose();
  }
  return outputs;
}
