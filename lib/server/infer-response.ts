import { TorchError } from '../core/errors';
import { Tensor } from '../core/tensor';
import { encode } from '../core/tensor-data';
import { shortened } from '../core/validate';
import type { InferRequest } from './infer-request';
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

/** A response as it is sent: with the length of its JSON where binary data follows. */
export interface EncodedResponse {
  body: Buffer;
  headerLength?: number;
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

/** Writes a response: outputs as JSON, or as bytes behind it where the request wants them so. */
export async function encodeResponse(
  head: ResponseHead,
  outputs: readonly WireOutput[],
  request: Pick<InferRequest, 'outputs' | 'binary'>,
): Promise<EncodedResponse> {
  const described: string[] = [];
  const binary: Uint8Array[] = [];
  for (const { name, tensor, parameters } of outputs) {
    const { dtype, shape } = tensor;
    const description = { name, datatype: datatypeOf(dtype), shape };
    if (request.outputs?.get(name)?.binary ?? request.binary) {
      const bytes = toBinaryData(tensor);
      binary.push(bytes);
      described.push(JSON.stringify({ ...description, parameters: { ...parameters, binary_data_size: bytes.length } }));
    } else {
      const json = JSON.stringify({ ...description, ...(parameters && { parameters }) });
      described.push(`${json.slice(0, -1)},"data":${await toJsonData(tensor)}}`);
    }
  }
  const header = Buffer.from(`${JSON.stringify(head).slice(0, -1)},"outputs":[${described.join(',')}]}`);
  return binary.length > 0
    ? { body: Buffer.concat([header, ...binary]), headerLength: header.length }
    : { body: header };
}
