import { mkdtempSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { optionalPackage } from '../core/optional-package';
import { invalid } from '../core/validate';
import { type ResultStore, type StoredResult, storeError } from './result-store';

type Client = import('@aws-sdk/client-s3').S3Client;

/**
 * A store in a bucket of S3, or of what speaks like it. Region, address and keys are those of the AWS SDK: its environment variables
 * (`AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` …) and files. It needs the package `@aws-sdk/client-s3`.
 *
 * @param address `s3://bucket/prefix`.
 * @returns The store; nothing is asked of the bucket yet.
 * @throws TorchError `ERR_INVALID_ARGUMENT` for another address; `ERR_MISSING_PACKAGE` where the package isn't
 *   installed.
 *
 * @example
 * const store = s3Store('s3://captures/run-1');
 */
export function s3Store(address: string): ResultStore {
  const [, bucket, prefix = ''] = /^s3:\/\/([^/]+)(?:\/(.*?))?\/*$/.exec(String(address)) ?? [];
  if (!bucket) throw invalid("'s3://bucket/prefix'", 'an address of S3', address);
  return new S3Store(address, bucket, prefix === '' ? '' : `${prefix}/`);
}

class S3Store implements ResultStore {
  readonly #sdk = optionalPackage<typeof import('@aws-sdk/client-s3')>('@aws-sdk/client-s3', 'which S3 is reached by');
  readonly scratch = mkdtempSync(join(tmpdir(), 'libtorch-attention-bulk-'));
  readonly #client: Client;

  constructor(
    readonly name: string,
    private readonly bucket: string,
    private readonly prefix: string,
  ) {
    // Of other servers than Amazon's, few have an address for each bucket.
    const ownEndpoint = process.env['AWS_ENDPOINT_URL_S3'] ?? process.env['AWS_ENDPOINT_URL'];
    this.#client = new this.#sdk.S3Client({ ...(ownEndpoint && { forcePathStyle: true }) });
  }

  async put(name: string, content: Uint8Array | { path: string }): Promise<void> {
    try {
      // As bytes, which the client can send again, as it can't a stream.
      const Body = content instanceof Uint8Array ? content : await readFile(content.path);
      const Key = `${this.prefix}${name}`;
      await this.#client.send(new this.#sdk.PutObjectCommand({ Bucket: this.bucket, Key, Body }));
    } catch (error) {
      throw storeError(this.name, `writing ${name}`, error);
    } finally {
      if (!(content instanceof Uint8Array)) await rm(content.path, { force: true }).catch(() => {});
    }
  }

  async get(name: string): Promise<Uint8Array | undefined> {
    try {
      const command = new this.#sdk.GetObjectCommand({ Bucket: this.bucket, Key: `${this.prefix}${name}` });
      const { Body } = await this.#client.send(command);
      return await Body?.transformToByteArray();
    } catch (error) {
      if ((error as Error).name === 'NoSuchKey') return undefined;
      throw storeError(this.name, `reading ${name}`, error);
    }
  }

  async list(prefix: string): Promise<StoredResult[]> {
    const found: StoredResult[] = [];
    let token: string | undefined;
    try {
      do {
        const page = await this.#client.send(
          new this.#sdk.ListObjectsV2Command({
            Bucket: this.bucket,
            Prefix: `${this.prefix}${prefix}`,
            ...(token !== undefined && { ContinuationToken: token }),
          }),
        );
        for (const { Key = '', Size = 0 } of page.Contents ?? []) {
          found.push({ name: Key.slice(this.prefix.length), size: Size });
        }
        token = page.IsTruncated ? page.NextContinuationToken : undefined;
      } while (token !== undefined);
    } catch (error) {
      throw storeError(this.name, `listing ${prefix}`, error);
    }
    return found;
  }

  async remove(name: string): Promise<void> {
    try {
      await this.#client.send(new this.#sdk.DeleteObjectCommand({ Bucket: this.bucket, Key: `${this.prefix}${name}` }));
    } catch (error) {
      throw storeError(this.name, `removing ${name}`, error);
    }
  }
}
