import { TorchError } from '../core/errors';
import { Tensor } from '../core/tensor';
import { encode } from '../core/tensor-data';
import { shortened } from '../core/validate';
import type { InferRequest } from './infer-request';
import { loopTurn } from './loop-turn';
import type { NamedValue } from './model-form';
import type { ScalarType } from './type-form';
import { datatypeOf, isWireDType, toBinaryData, toJsonData, type WireTensor } from './wire-tensor';

/** One output of a response. */
export interface WireOutput {
  name: string;
  tensor: WireTensor;
  parameters?: Record<string, unknown>;
}

/** What a response says beside its outputs. */
export interface ResponseHead {
  model_name: string;
  model_version: string;
  id?: string;
  parameters?: Record<string, unknown>;
}

/** A response as it is sent: its JSON, and the binary data that follows it. */
export interface EncodedResponse {
  json: Buffer[];
  binary: Uint8Array[];
}

export function byteLength(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/**
 * The elements of a tensor on any device; those of the CPU are not copied.
 *
 * @throws TorchError `ERR_INVALID_ARGUMENT` for a type that the protocol lacks.
 */
export async function wireTensorOf(tensor: Tensor, name: string): Promise<WireTensor> {
  const { dtype, shape } = tensor;
  if (!isWireDType(dtype)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected outputs of types that the Open Inference Protocol has but '${name}' is ${dtype}: ask for other outputs by name`,
    );
  }
  const array = await tensor.data();
  return { dtype, shape: [...shape], bytes: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
}

/** A number, a boolean or a text as a tensor of one element. */
function wireScalarOf(value: Exclude<NamedValue['value'], Tensor>, type: ScalarType | undefined): WireTensor {
  if (typeof value === 'string') return { dtype: 'bytes', shape: [1], texts: [Buffer.from(value, 'utf8')] };
  const isInteger = type === undefined ? Number.isSafeInteger(value) : type === 'int';
  const dtype = typeof value === 'boolean' ? 'bool' : typeof value === 'bigint' || isInteger ? 'int64' : 'float64';
  return { dtype, shape: [1], bytes: encode([value], dtype) };
}

/** The outputs that a request wants, in the order in which it asks for them; attention isn't among them. */
export function pickOutputs<Output extends { name: string }>(
  request: InferRequest,
  outputs: readonly Output[],
): Output[] {
  if (!request.outputs) return [...outputs];
  const byName = new Map(outputs.map((each) => [each.name, each]));
  return [...request.outputs.keys()]
    .filter((name) => !/^attention\.\d/.test(name))
    .map((name) => {
      const found = byName.get(name);
      if (found) return found;
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected outputs among ${[...byName.keys()].join(', ') || '(none)'} but received '${shortened(name)}'`,
      );
    });
}

/** The same of what a model gave. */
export async function wantedOutputs(request: InferRequest, named: readonly NamedValue[]): Promise<WireOutput[]> {
  const outputs: WireOutput[] = [];
  for (const { name, value, type } of pickOutputs(request, named)) {
    outputs.push({ name, tensor: Tensor.is(value) ? await wireTensorOf(value, name) : wireScalarOf(value, type) });
  }
  return outputs;
}

/** JSON that is shorter waits for what follows it, so that a response of many small outputs is one part. */
const SMALL = 2 ** 14;

/**
 * Writes a response: outputs as JSON, or as bytes behind it where the request wants them so. What is large is in several parts,
 * each written in a turn of the event loop.
 */
export async function encodeResponse(
  head: ResponseHead,
  outputs: readonly WireOutput[],
  request: Pick<InferRequest, 'outputs' | 'binary'>,
): Promise<EncodedResponse> {
  const json: Buffer[] = [];
  const binary: Uint8Array[] = [];
  let text = `${JSON.stringify(head).slice(0, -1)},"outputs":[`;
  const write = async (piece: string): Promise<void> => {
    text += piece;
    if (text.length < SMALL) return;
    json.push(Buffer.from(text));
    text = '';
    await loopTurn();
  };
  await loopTurn();
  for (const [i, { name, tensor, parameters }] of outputs.entries()) {
    const { dtype, shape } = tensor;
    const description = { name, datatype: datatypeOf(dtype), shape };
    if (i > 0) text += ',';
    if (request.outputs?.get(name)?.binary ?? request.binary) {
      const bytes = toBinaryData(tensor);
      binary.push(bytes);
      await write(JSON.stringify({ ...description, parameters: { ...parameters, binary_data_size: bytes.length } }));
    } else {
      const described = JSON.stringify({ ...description, ...(parameters && { parameters }) });
      text += `${described.slice(0, -1)},"data":`;
      for (const piece of toJsonData(tensor)) await write(piece);
      text += '}';
    }
  }
  json.push(Buffer.from(`${text}]}`));
  return { json, binary };
}
