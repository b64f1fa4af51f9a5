import { type Attention, type AttentionWithoutWeights, descriptionOf, namedTensorsOf } from '../capture/attention';
import { JSON_CAPTURE_OPTIONS, type JsonCaptureOptions } from '../capture/json-capture-options';
import { options as checkOptions, elements, integer, invalid, isPlainObject } from '../core/validate';
import type { InferRequest } from './infer-request';
import { type WireOutput, wireTensorOf } from './infer-response';

/** The attention that the parameter `attention` of a request asks for: `true` for all, or an object; undefined for none. */
export function requestedCapture({ parameters }: InferRequest, maxBytes: number): JsonCaptureOptions | undefined {
  const { attention } = parameters;
  if (attention === undefined || attention === false) return undefined;
  if (attention === true) return { maxBytes };
  if (!isPlainObject(attention)) throw invalid('an object, or true,', 'the parameter attention', attention);
  const asked = checkOptions(attention as JsonCaptureOptions, JSON_CAPTURE_OPTIONS, 'the parameter attention');
  const { maxBytes: own } = asked;
  return { ...asked, maxBytes: own === undefined ? maxBytes : Math.min(maxBytes, integer(own, 'maxBytes', 0)) };
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
