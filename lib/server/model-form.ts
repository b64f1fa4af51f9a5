import { TorchError } from '../core/errors';
import { isShape } from '../core/shape';
import { Tensor } from '../core/tensor';
import { isPlainObject, shortened } from '../core/validate';
import type { DictionaryKey, Value } from '../core/value';
import { ExportedProgram, type ProgramSignature, type ProgramValue } from '../model/exported-program';
import type { ScriptModule } from '../model/script-module';
import { type ScalarType, type TypeForm, typeForm } from './type-form';
import { arrayOf, datatypeOf, isWireDType, type WireTensor } from './wire-tensor';

/** What the metadata says of one tensor that a model takes or gives. */
export interface TensorMetadata {
  name: string;
  datatype: string;
  shape: number[];
  /** Whether a request may do without it. */
  optional?: true;
}

/** What a model is called with. */
export interface ModelCall {
  inputs: Value[];
  options: { kwargs?: { [name: string]: Value } };
}

/** One part of what a model gave. */
export interface NamedValue {
  name: string;
  value: Tensor | string | number | bigint | boolean;
  /** Of a number, where its type says. */
  type?: ScalarType | undefined;
}

/** What a model takes and gives, as tensors with names. */
export interface ModelForm {
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
  /** @throws TorchError `ERR_INVALID_ARGUMENT` for tensors that the model has no place for, and where some are missing. */
  call(given: ReadonlyMap<string, WireTensor>, device: string): ModelCall;
  named(output: Value): NamedValue[];
  /** Whether an input of this name is a tensor, and no number, text or list of such. */
  isTensor(name: string): boolean;
  /** The most rows that inputs may have together, where they are those of a batch; 1 where they are fixed. */
  readonly maxBatch: number;
}

/** TorchScript says neither which types and sizes its tensors have, nor how many dimensions. */
const UNDECLARED = { datatype: 'ANY', shape: [-1] };

const SCALAR_DATATYPES: Record<ScalarType, string> = { int: 'INT64', float: 'FP64', bool: 'BOOL', str: 'BYTES' };

/** How a model of any kind takes and gives tensors by name. */
export function modelForm(model: ScriptModule | ExportedProgram): ModelForm {
  return model instanceof ExportedProgram ? programForm(model) : scriptForm(model);
}

/** Tensors that a request gave, each of which is to be used once. */
class Given {
  readonly #left: Map<string, WireTensor>;

  constructor(
    given: ReadonlyMap<string, WireTensor>,
    readonly device: string,
    private readonly names: readonly TensorMetadata[],
  ) {
    this.#left = new Map(given);
  }

  take(name: string): WireTensor | undefined {
    const tensor = this.#left.get(name);
    this.#left.delete(name);
    return tensor;
  }

  /** The names, of those that weren't taken yet, of the parts of `name`: what follows its point. */
  partsOf(name: string): string[] {
    const prefix = `${name}.`;
    return [...this.#left.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  }

  has(name: string): boolean {
    return this.#left.has(name) || this.partsOf(name).length > 0;
  }

  missing(name: string, what: string): TorchError {
    const received = [...this.#left.keys()].map((key) => `'${shortened(key)}'`).join(', ') || 'none';
    return new TorchError('ERR_INVALID_ARGUMENT', `Expected an input '${name}' (${what}) but received ${received}`);
  }

  /** Refuses what nothing took. */
  checkUsed(): void {
    const [name] = this.#left.keys();
    if (name === undefined) return;
    const known = this.names.map((each) => each.name).join(', ');
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected inputs of the names ${known || '(none)'} but received '${shortened(name)}'`,
    );
  }
}

function tensorOf(tensor: WireTensor, name: string, device: string): Tensor {
  const { dtype, shape } = tensor;
  if (dtype === 'bytes') {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a tensor of numbers or booleans for '${name}' but received BYTES`,
    );
  }
  return Tensor.from(arrayOf(dtype, tensor.bytes), { shape, dtype, device });
}

function scalarsOf(tensor: WireTensor, type: ScalarType, name: string): (string | number | bigint | boolean)[] {
  const wrong = (): TorchError =>
    new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${type === 'str' ? 'BYTES' : `a number of type ${type}`} for '${name}' but received ${datatypeOf(tensor.dtype)}`,
    );
  if (tensor.dtype === 'bytes') {
    if (type !== 'str') throw wrong();
    return tensor.texts.map((text) => new TextDecoder().decode(text));
  }
  if (type === 'str') throw wrong();
  const floating = tensor.dtype === 'float16' || tensor.dtype === 'bfloat16';
  const elements = floating
    ? Tensor.from(arrayOf(tensor.dtype, tensor.bytes), { dtype: tensor.dtype }).to({ dtype: 'float64' }).toTypedArray()
    : arrayOf(tensor.dtype, tensor.bytes);
  return Array.from(elements as ArrayLike<number | bigint>, (element) => {
    if (type === 'bool') return Number(element) !== 0;
    if (type === 'float') return Number(element);
    if (typeof element === 'number' && !Number.isInteger(element)) throw wrong();
    return element;
  });
}

/** The one element of a tensor that stands for a number, a boolean or a text. */
function scalarOf(tensor: WireTensor, type: ScalarType, name: string): string | number | bigint | boolean {
  const elements = scalarsOf(tensor, type, name);
  const [element] = elements;
  if (element === undefined || elements.length !== 1) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected one element for '${name}' (${type}) but received ${elements.length} of shape [${tensor.shape.join(', ')}]`,
    );
  }
  return element;
}

/** A list or a dictionary without elements is given as a tensor of none, under the name of the whole. */
function isEmpty(given: Given, name: string): boolean {
  const tensor = given.take(name);
  if (tensor === undefined) return false;
  if (tensor.shape.length === 1 && tensor.shape[0] === 0) return true;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected the elements of '${name}' as '${name}.…', or an empty tensor of shape [0] for none of them, but received one of ` +
      `shape [${tensor.shape.join(', ')}]`,
  );
}

/** The first steps of names like `0.left` and `0.right`, each once. */
function steps(parts: readonly string[]): string[] {
  return [...new Set(parts.map((part) => part.split('.')[0] as string))];
}

/** The steps that count from 0 on; undefined where others are among them. */
function inOrder(found: readonly string[]): string[] | undefined {
  const positions = found.map((_, i) => String(i));
  return positions.every((position) => found.includes(position)) ? positions : undefined;
}

/** The value of a type, of the tensors that have its name or begin with it. */
function build(form: TypeForm, name: string, given: Given): Value {
  switch (form.kind) {
    case 'tensor': {
      const tensor = given.take(name);
      if (tensor === undefined) throw given.missing(name, 'Tensor');
      return tensorOf(tensor, name, given.device);
    }
    case 'scalar': {
      const tensor = given.take(name);
      if (tensor === undefined) throw given.missing(name, form.type);
      return scalarOf(tensor, form.type, name);
    }
    case 'optional':
      return given.has(name) ? build(form.of, name, given) : null;
    case 'list': {
      if (form.of.kind === 'scalar') {
        const tensor = given.take(name);
        if (tensor === undefined) throw given.missing(name, `List[${form.of.type}]`);
        return scalarsOf(tensor, form.of.type, name);
      }
      if (isEmpty(given, name)) return [];
      const positions = inOrder(steps(given.partsOf(name)));
      if (!positions?.length) throw given.missing(`${name}.0`, `an element of '${name}', counted from 0`);
      return positions.map((position) => build(form.of, `${name}.${position}`, given));
    }
    case 'tuple':
      return form.of.map((each, i) => build(each, `${name}.${i}`, given));
    case 'dict': {
      if (isEmpty(given, name)) return {};
      const parts = given.partsOf(name);
      // The keys of tensors may have points in them.
      const leaves = form.of.kind === 'tensor' || form.of.kind === 'scalar';
      const keys = leaves ? parts : steps(parts);
      if (keys.length === 0) throw given.missing(`${name}.…`, `an element of '${name}', by its key`);
      return Object.fromEntries(keys.map((key) => [key, build(form.of, `${name}.${key}`, given)]));
    }
    default:
      return buildUnknown(name, given);
  }
}

/** What a type that isn't known is made of is what it was given: a tensor, a sequence, or a dictionary. */
function buildUnknown(name: string, given: Given): Value {
  const tensor = given.take(name);
  if (tensor !== undefined) {
    return tensor.dtype === 'bytes' ? scalarOf(tensor, 'str', name) : tensorOf(tensor, name, given.device);
  }
  const found = steps(given.partsOf(name));
  if (found.length === 0) throw given.missing(name, 'its parts as names with a point');
  const positions = inOrder(found);
  if (positions) return positions.map((position) => buildUnknown(`${name}.${position}`, given));
  return Object.fromEntries(found.map((key) => [key, buildUnknown(`${name}.${key}`, given)]));
}

/** What the metadata says of a type; `*` stands for the positions of a list, and for the keys of a dictionary. */
function described(form: TypeForm, name: string, optional: boolean): TensorMetadata[] {
  const mark = optional ? { optional: true as const } : {};
  switch (form.kind) {
    case 'scalar':
      return [{ name, datatype: SCALAR_DATATYPES[form.type], shape: [1], ...mark }];
    case 'optional':
      return described(form.of, name, true);
    case 'list':
      if (form.of.kind === 'scalar') {
        return [{ name, datatype: SCALAR_DATATYPES[form.of.type], shape: [-1], ...mark }];
      }
      return described(form.of, `${name}.*`, optional);
    case 'dict':
      return described(form.of, `${name}.*`, optional);
    case 'tuple':
      return form.of.flatMap((each, i) => described(each, `${name}.${i}`, optional));
    default:
      return [{ name, ...UNDECLARED, ...mark }];
  }
}

function scriptForm(model: ScriptModule): ModelForm {
  const { parameters, returns } = model.signature();
  const forms = parameters.map(({ name, type, optional }) => ({ name, form: typeForm(type), optional }));
  const inputs = forms.flatMap(({ name, form, optional }) => described(form, name, optional));
  const output = typeForm(returns);
  return {
    inputs,
    outputs: described(output, 'output', false),
    call(tensors, device) {
      const given = new Given(tensors, device, inputs);
      const values = forms.map(({ name, form, optional }) =>
        optional && !given.has(name) ? undefined : build(form, name, given),
      );
      given.checkUsed();
      // Defaults at the end are the model's own.
      const last = values.findLastIndex((value) => value !== undefined);
      return { inputs: values.slice(0, last + 1), options: {} };
    },
    named: (value) => namedValues(value, 'output', output),
    isTensor: (name) => !inputs.some((each) => each.name === name && each.datatype !== UNDECLARED.datatype),
    maxBatch: Number.POSITIVE_INFINITY,
  };
}

/** The range of the first size of all tensors of a program, where it is one that may differ. */
function programBatch({ inputs, symbols }: ProgramSignature): number {
  const first = new Set(inputs.filter(({ shape }) => shape.length > 0).map(({ shape }) => shape[0]));
  const [symbol] = first;
  if (first.size !== 1 || typeof symbol !== 'string' || !Object.hasOwn(symbols, symbol)) return 1;
  return symbols[symbol]?.max ?? 1;
}

const PROGRAM_SCALARS: Record<string, ScalarType> = { int: 'int', float: 'float', bool: 'bool', str: 'str' };
/** What a value that is no tensor is sent as; undefined of a tensor. */
const scalarType = (dtype: string): ScalarType | undefined =>
  Object.hasOwn(PROGRAM_SCALARS, dtype) ? PROGRAM_SCALARS[dtype] : undefined;

function describedLeaf({ name, dtype, shape, constant }: ProgramValue): TensorMetadata {
  const mark = constant === undefined ? {} : { optional: true as const };
  const scalar = scalarType(dtype);
  if (scalar !== undefined) {
    return { name, datatype: SCALAR_DATATYPES[scalar], shape: [1], ...mark };
  }
  if (dtype === 'NoneType') return { name, ...UNDECLARED, ...mark };
  const sizes = shape.map((size) => (typeof size === 'number' ? size : -1));
  const datatype = isWireDType(dtype) ? datatypeOf(dtype) : UNDECLARED.datatype;
  return { name, datatype, shape: isShape(shape) ? shape : sizes, ...mark };
}

/** A program takes its leaves, whose names say where they stand. */
function programForm(program: ExportedProgram): ModelForm {
  const { inputs: leaves, outputs } = program.signature();
  const inputs = leaves.map(describedLeaf);
  const typeAt = new Map(outputs.map(({ name, dtype }) => [name, scalarType(dtype)]));
  return {
    inputs,
    outputs: outputs.filter(({ dtype }) => dtype !== 'NoneType').map((leaf) => withoutMark(describedLeaf(leaf))),
    call(tensors, device) {
      const given = new Given(tensors, device, inputs);
      const values = leaves.map(({ name, dtype, constant }) => {
        const tensor = given.take(name);
        if (tensor === undefined) {
          if (constant === undefined) throw given.missing(name, dtype);
          return constant;
        }
        const scalar = scalarType(dtype);
        return scalar === undefined ? tensorOf(tensor, name, device) : scalarOf(tensor, scalar, name);
      });
      given.checkUsed();
      const { inputs: positional, kwargs } = program.callOfLeaves(values);
      return { inputs: [...positional], options: { kwargs } };
    },
    named: (value) =>
      namedValues(value, 'output', { kind: 'unknown', text: '' }).map((each) => ({
        ...each,
        type: typeAt.get(each.name),
      })),
    isTensor: (name) => leaves.some((leaf) => leaf.name === name && scalarType(leaf.dtype) === undefined),
    maxBatch: programBatch(program.signature()),
  };
}

function withoutMark({ name, datatype, shape }: TensorMetadata): TensorMetadata {
  return { name, datatype, shape };
}

/** The parts of an output: `output`, or `output.0`, `output.logits` … None is left out. */
function namedValues(value: Value, name: string, form: TypeForm): NamedValue[] {
  if (value === null || value === undefined) return [];
  if (form.kind === 'optional') return namedValues(value, name, form.of);
  if (Tensor.is(value)) return [{ name, value }];
  if (typeof value !== 'object') return [{ name, value, type: form.kind === 'scalar' ? form.type : undefined }];
  if (Array.isArray(value)) {
    // The fields of a named tuple are properties of its array.
    const fields = Object.keys(value).slice(value.length);
    return value.flatMap((each, i) => namedValues(each, `${name}.${fields[i] ?? i}`, partForm(form, i)));
  }
  const entries: [DictionaryKey, Value][] =
    value instanceof Map ? [...value] : isPlainObject(value) ? Object.entries(value) : [];
  return entries.flatMap(([key, each], i) =>
    namedValues(each, `${name}.${typeof key === 'object' ? i : String(key)}`, partForm(form, i)),
  );
}

function partForm(form: TypeForm, index: number): TypeForm {
  if (form.kind === 'list' || form.kind === 'dict') return form.of;
  if (form.kind === 'tuple') return form.of[index] ?? { kind: 'unknown', text: '' };
  return { kind: 'unknown', text: '' };
}
