import { TorchError } from '../core/errors';
import { elements, integer, invalid, isPlainObject, optionalBoolean, shortened } from '../core/validate';
import { fromBinaryData, fromJsonData, type WireTensor } from './wire-tensor';

/** A request for an inference, as the Open Inference Protocol has it. */
export interface InferRequest {
  id?: string;
  inputs: Map<string, WireTensor>;
  /** The outputs that are wanted, and which of them as bytes; all where it is undefined. */
  outputs?: Map<string, { binary: boolean }>;
  /** Whether outputs that no entry says it of are wanted as bytes. */
  binary: boolean;
  parameters: Readonly<Record<string, unknown>>;
}

/** More inputs, or outputs, are no request: each is looked for by its name among the others. */
const MOST_TENSORS = 4096;

/** Parameters that only servers with state, or with memory that they share with clients, know what to do with. */
const REFUSED = ['sequence_id', 'shared_memory_region', 'classification'];

/** Clients whose requests are made of classes write null for what isn't there. */
function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (!isPlainObject(value)) throw invalid('an object', what, value);
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
}

function parametersOf(value: unknown, what: string): Record<string, unknown> {
  const parameters = objectOf(value, `parameters of ${what}`);
  for (const name of REFUSED) {
    if (!Object.hasOwn(parameters, name) || !parameters[name]) continue;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected no parameter ${name} of ${what}, which this server doesn't have`,
    );
  }
  return parameters;
}

function nameOf(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '') throw invalid('a name', what, value);
  return value;
}

/** Strings, to their end or that of the text, so that what looks like a number in one is none; and the numbers that JSON lacks. */
const STRING_OR_NAMED_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?$)|NaN|-?Infinity/gs;

/** JSON, and what Python's `json` and others write that is none: NaN, Infinity and -Infinity, which are taken as texts. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error;
    const quoted = text.replace(STRING_OR_NAMED_NUMBER, (found) => (found.startsWith('"') ? found : `"${found}"`));
    try {
      return JSON.parse(quoted);
    } catch {
      throw error;
    }
  }
}

/** The JSON of a body, and what comes after it. */
function splitBody(body: Uint8Array, headerLength: string | undefined): { json: unknown; binary: Uint8Array } {
  let length = body.length;
  if (headerLength !== undefined) {
    length = /^\d{1,15}$/.test(headerLength) ? Number(headerLength) : Number.NaN;
    if (!(length > 0 && length <= body.length)) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected an Inference-Header-Content-Length from 1 to the ${body.length} bytes of the body but received '${shortened(headerLength)}'`,
      );
    }
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body.subarray(0, length));
    return { json: parseJson(text), binary: body.subarray(length) };
  } catch (error) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected JSON in the body but received what isn't: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

/**
 * Reads the body of a request: JSON, with binary data of tensors behind it where the header
 * `Inference-Header-Content-Length` says how long the JSON is.
 *
 * @throws TorchError `ERR_INVALID_ARGUMENT` for a body that is no request.
 */
export function parseInferRequest(body: Uint8Array, headerLength: string | undefined): InferRequest {
  const { json, binary } = splitBody(body, headerLength);
  if (!isPlainObject(json)) throw invalid('an object', 'the body', json);
  const { id, inputs, outputs, parameters: given } = objectOf(json, 'the body');
  if (id !== undefined && typeof id !== 'string') throw invalid('a string', 'id', id);
  const parameters = parametersOf(given, 'the request');
  const wantsBinary = optionalBoolean(parameters['binary_data_output'], 'binary_data_output');
  const requested = outputs === undefined ? undefined : parseOutputs(outputs, wantsBinary ?? false);
  const allBinary =
    requested !== undefined && requested.size > 0 && [...requested.values()].every((each) => each.binary);
  return {
    ...(id === undefined ? {} : { id }),
    inputs: parseInputs(inputs, binary),
    ...(requested?.size ? { outputs: requested } : {}),
    binary: wantsBinary ?? allBinary,
    parameters,
  };
}

function parseInputs(given: unknown, binary: Uint8Array): Map<string, WireTensor> {
  const inputs = new Map<string, WireTensor>();
  let at = 0;
  elements(
    given,
    'an array',
    'inputs',
    (each, i) => {
      if (!isPlainObject(each)) throw invalid('an object', `inputs[${i}]`, each);
      const { name: called, datatype, shape, data, parameters } = objectOf(each, `inputs[${i}]`);
      const name = nameOf(called, `the name of inputs[${i}]`);
      const what = `input '${shortened(name)}'`;
      if (inputs.has(name)) throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${what} once but received it twice`);
      const { binary_data_size: size } = parametersOf(parameters, what);
      if (size === undefined) {
        inputs.set(name, fromJsonData(datatype, shape, data, what));
        return;
      }
      if (data !== undefined) throw invalid('no data beside binary_data_size', what, data);
      const length = integer(size, `binary_data_size of ${what}`, 0);
      if (at + length > binary.length) {
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          `Expected ${length} bytes of binary data for ${what} but received ${binary.length - at}`,
        );
      }
      inputs.set(name, fromBinaryData(datatype, shape, binary.subarray(at, at + length), what));
      at += length;
    },
    MOST_TENSORS,
  );
  if (at < binary.length) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${at} bytes of binary data, as the inputs say, but received ${binary.length}`,
    );
  }
  return inputs;
}

function parseOutputs(given: unknown, binaryByDefault: boolean): Map<string, { binary: boolean }> {
  const outputs = new Map<string, { binary: boolean }>();
  elements(
    given,
    'an array',
    'outputs',
    (each, i) => {
      if (!isPlainObject(each)) throw invalid('an object', `outputs[${i}]`, each);
      const name = nameOf(each['name'], `the name of outputs[${i}]`);
      const { binary_data: binary } = parametersOf(each['parameters'], `output '${shortened(name)}'`);
      outputs.set(name, {
        binary: optionalBoolean(binary, `binary_data of output '${shortened(name)}'`) ?? binaryByDefault,
      });
    },
    MOST_TENSORS,
  );
  return outputs;
}
