// Every peer by name, and what it takes to start it.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inputs, WIDTHS } from '../models.mjs';
import { Missing, Peer } from './peer.mjs';

const { chooseBinaries } = createRequire(import.meta.url)('../../dist/libtorch/load.js');
const program = (name) => fileURLToPath(new URL(name, import.meta.url));
const libtorchProgram = () => {
  const names = ['libtorch_peer', 'libtorch_peer.exe'];
  const { directory } = chooseBinaries().binaries;
  return names.map((name) => join(directory, name)).find((path) => existsSync(path));
};

function startNode(script, { models, threads, model, command = [], env }) {
  const node = [process.execPath, '--expose-gc', program(script), threads, models.path(model), WIDTHS[model]];
  const [first, ...rest] = [...command, ...node.map(String)];
  return Peer.start(first, rest, env);
}

/** This package in another process; `command` puts something before Node, as `taskset` does. */
export const startPackage = (options) => startNode('package.mjs', options);

/** A server of this package in another process, which also asks it. */
export const startServer = (options) => startNode('server.mjs', options);

/** The same file in C++: by libtorch itself (`libtorch`) and by this package's native side (`package`). */
export function startLibtorch({ models, threads, model, env }) {
  const path = libtorchProgram();
  if (!path) throw new Missing('its program is not built: npm run bench builds it');
  return Peer.start(path, [threads, models.path(model), WIDTHS[model]].map(String), env);
}

function startPython(kind, options, env) {
  return Peer.start('python3', [program('peer.py'), kind, JSON.stringify(options)], env);
}

/** The same file in Python, with torch.jit.load. */
export function startTorchJit({ models, threads, model, env }) {
  return startPython('file', { threads, path: models.path(model), width: WIDTHS[model] }, env);
}

/** Python's torch.jit.load, each time anew, and a run of what was loaded where `run` says so: a way is a path. */
export const startLoading = ({ threads, run = false, env }) => startPython('loading', { threads, run }, env);

/** The model behind bert.pt in transformers. */
export const startHuggingFace = ({ threads, env }) => startPython('huggingface', { threads }, env);

/** Python's nn.TransformerEncoder; by default with the weights of encoder.pt. */
export function startEncoder({ threads, measures = {}, env }) {
  const usual = { dModel: 512, nhead: 8, dimFeedforward: 2048, layers: 12, activation: 'relu' };
  return startPython('encoder', { threads, ...usual, ...measures }, env);
}

/** What bert.pt was made from as ONNX: without and with its attentions as outputs. */
function onnxFiles(models) {
  const files = ['bert.onnx', 'bert_attentions.onnx'];
  const reason = models.provide(files);
  if (files.some((name) => !models.has(name))) throw new Missing(reason);
  return files.map((name) => models.path(name));
}

/** onnxruntime-node on what bert.pt was made from. */
export function startOnnx({ models, threads, env }) {
  const args = [program('onnx.mjs'), threads, ...onnxFiles(models)];
  return Peer.start(process.execPath, ['--expose-gc', ...args.map(String)], env);
}

/** onnxruntime from Python, whose outputs stay where it made them, on what bert.pt was made from. */
export function startOnnxPython({ models, threads, env }) {
  const [forward, attentions] = onnxFiles(models);
  return startPython('onnx', { threads, forward, attentions }, env);
}

/** Starts a peer, or says in the report why it is left out and returns null. */
export async function startOrLeaveOut(report, what, start) {
  try {
    const peer = await start();
    report.versions(peer.versions);
    return peer;
  } catch (error) {
    report.leftOut(what, error.message.split('\n')[0]);
    return null;
  }
}

/** The largest difference between the first numbers of two outputs. */
export function difference(left, right) {
  return Math.max(...left.map((value, i) => Math.abs(value - right[i])));
}

/** Inputs of a model of this benchmark, for a run in this process. */
export function inputsOf(model, batch, tokens) {
  return inputs(WIDTHS[model], batch, tokens);
}
