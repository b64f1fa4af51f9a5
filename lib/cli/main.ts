#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { registerBuild } from './build';
import { registerBulk } from './bulk';
import { registerCapture } from './capture';
import { registerDoctor } from './doctor';
import { registerInspect } from './inspect';
import { registerServe } from './serve';
import { registerSetup } from './setup';
import { registerView } from './view';

/** The command line: each command is a file of its own. */
export function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8')) as {
    version: string;
  };
  const program = new Command('libtorch-attention')
    .description('See inside TorchScript checkpoints: modules, attention weights of every layer and head.')
    .version(version)
    .option('--verbose', 'show where an error comes from')
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(--help says more)');
  registerDoctor(program);
  registerSetup(program);
  registerBuild(program);
  registerInspect(program);
  registerCapture(program);
  registerView(program);
  registerServe(program);
  registerBulk(program);
  return program;
}

/** Runs a command; an error becomes one line on stderr and the exit code 1. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = createProgram();
  try {
    await program.parseAsync(argv);
  } catch (error) {
    process.stderr.write(`${describeError(error, program.opts<{ verbose?: boolean }>().verbose ?? false)}\n`);
    process.exitCode = 1;
  }
}

function describeError(error: unknown, verbose: boolean): string {
  const { message, code, stack, nativeStack, cause } = error as Error & { code?: unknown; nativeStack?: string };
  const line = `error: ${message ?? String(error)}${typeof code === 'string' ? ` [${code}]` : ''}`;
  if (!verbose) return line;
  const reason = cause instanceof Error ? `caused by: ${cause.stack}` : undefined;
  return [line, stack, nativeStack, reason].filter(Boolean).join('\n');
}

if (require.main === module) {
  // A reader that stops early, as `head` does, is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  void main(process.argv);
}
