import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { isNativeError } from 'node:util/types';

import { type Entry, openPromise } from 'yauzl';
import { anySignal } from '../core/any-signal';
import { crc32 } from '../core/crc32';
import type { FetchContext } from './fetching';
import type { PartialDownload } from './partial-download';

const ATTEMPTS = 3;
const PAUSE_MS = 500;
const RANGE_NOT_SATISFIABLE = 416;

/** A refusal that trying again won't change. */
class Refusal extends Error {}

/** How a server is downloaded from. */
export interface DownloadTimes {
  /** How long it may take to begin its answer, the connection included. */
  readonly answerTimeoutMs: number;
  /** How long it may send nothing then. */
  readonly idleTimeoutMs: number;
}

/** Node's codes of connections that were never made: another try would be as long in vain. */
const UNREACHABLE =
  /^(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|EPROTO|UND_ERR_CONNECT_TIMEOUT|ERR_INVALID_URL|CERT_.*|.*_CERT.*)$/;

/**
 * Downloads a file, and checks its size, and its SHA-256 where the environment variable `LIBTORCH_ATTENTION_SHA256` gives one.
 * Where the connection breaks or the server fails, it goes on where it was, if the server allows that, or else begins anew; it gives
 * up after three times in a row that brought nothing that lasts.
 */
export async function downloadArchive(
  url: string,
  download: PartialDownload,
  context: FetchContext & DownloadTimes,
): Promise<void> {
  let kept = download.size();
  for (let attempt = 1; ; attempt += 1) {
    try {
      await downloadOnce(url, download, context);
      await checkHash(download.path, context.env);
      return;
    } catch (error) {
      if (error instanceof Refusal || !download.canGoOn()) download.remove();
      context.signal?.throwIfAborted();
      if (download.size() > kept) attempt = 1;
      kept = download.size();
      if (error instanceof Refusal || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * attempt));
    }
  }
}

async function downloadOnce(
  url: string,
  download: PartialDownload,
  { signal, onProgress, answerTimeoutMs, idleTimeoutMs }: FetchContext & DownloadTimes,
): Promise<void> {
  const idle = new AbortController();
  const hung = (): void => idle.abort(new Error(`the server sent nothing for ${idleTimeoutMs / 1000} s`));
  const silent = (): void => idle.abort(new Refusal(`the server did not answer within ${answerTimeoutMs / 1000} s`));
  let timer = setTimeout(silent, answerTimeoutMs);
  const either = anySignal([signal, idle.signal]);
  try {
    const response = await fetch(url, { signal: either.signal, headers: download.rangeHeaders() });
    clearTimeout(timer);
    timer = setTimeout(hung, idleTimeoutMs);
    if (!response.ok || !response.body) {
      const message = `the server answered ${response.status} ${response.statusText}`;
      if (response.status === RANGE_NOT_SATISFIABLE) download.remove();
      const passes = response.status >= 500 || response.status === RANGE_NOT_SATISFIABLE;
      throw passes ? new Error(message) : new Refusal(message);
    }
    let done = download.begin(response);
    const announced = response.headers.get('content-length');
    const total = announced === null ? null : done + Number(announced);
    const observe = new Transform({
      transform(chunk: Buffer, _encoding, callback): void {
        timer.refresh();
        done += chunk.length;
        onProgress?.({ stage: 'download', done, total });
        callback(null, chunk);
      },
    });
    const body = Readable.fromWeb(response.body as ReadableStream<Uint8Array>);
    const file = createWriteStream(download.path, { flags: done > 0 ? 'a' : 'w' });
    await pipeline(body, observe, file, { signal: either.signal });
    if (total !== null && done !== total) throw new Error(`expected ${total} bytes but received ${done}`);
  } catch (error) {
    // What the stream says when it is aborted is less than why it was.
    if (idle.signal.aborted) throw idle.signal.reason;
    throw describe(error);
  } finally {
    either.release();
    clearTimeout(timer);
  }
}

async function checkHash(path: string, env: NodeJS.ProcessEnv): Promise<void> {
  const expected = env['LIBTORCH_ATTENTION_SHA256']?.toLowerCase();
  if (!expected) return;
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  const received = hash.digest('hex');
  if (expected !== received) throw new Refusal(`expected the SHA-256 ${expected} but received ${received}`);
}

/** Node's fetch says "fetch failed" and "terminated"; why is in the cause. */
function describe(error: unknown): unknown {
  if (!isNativeError(error) || error instanceof Refusal || !isNativeError(error.cause)) return error;
  const { code, message } = error.cause as NodeJS.ErrnoException;
  const text = `${error.message}: ${message || code}`;
  return UNREACHABLE.test(code ?? '') ? new Refusal(text, { cause: error }) : new Error(text, { cause: error });
}

/** Unpacks a zip archive into a folder, checking the size and the CRC-32 of every file in it. */
export async function unpackArchive(
  path: string,
  target: string,
  { signal, onProgress }: Omit<FetchContext, 'env'>,
): Promise<void> {
  const archive = await openPromise(path, { autoClose: false });
  try {
    const entries: Entry[] = [];
    for await (const entry of archive.eachEntry()) entries.push(entry);
    const total = entries.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
    let done = 0;
    for (const entry of entries) {
      signal?.throwIfAborted();
      const file = join(target, entry.fileName);
      const mode = (entry.externalFileAttributes >>> 16) & 0o777;
      if (entry.fileName.endsWith('/')) {
        mkdirSync(file, { recursive: true });
      } else {
        mkdirSync(dirname(file), { recursive: true });
        const content = await archive.openReadStreamPromise(entry);
        let crc = 0;
        content.on('data', (chunk: Buffer) => {
          done += chunk.length;
          crc = crc32(chunk, crc);
          onProgress?.({ stage: 'unpack', done, total });
        });
        const output = createWriteStream(file, { mode: mode || 0o644 });
        await pipeline(content, output, signal ? { signal } : {});
        if (crc !== entry.crc32) throw new Error(`the archive is damaged: ${entry.fileName} has a wrong checksum`);
      }
    }
  } finally {
    archive.close();
  }
}
