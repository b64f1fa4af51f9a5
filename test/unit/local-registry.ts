import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

interface Published {
  manifest: { name: string; version: string };
  tarball: Buffer;
}

const MOST = 2 ** 28;

function ofTarball(path: string): Published {
  const text = execFileSync('tar', ['-xzOf', path, 'package/package.json'], { encoding: 'utf8', maxBuffer: MOST });
  return { manifest: JSON.parse(text) as Published['manifest'], tarball: readFileSync(path) };
}

function ofFolder(folder: string): Published {
  const args = ['-czf', '-', '--transform', 's,^\\.,package,', '-C', folder, '.'];
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Published['manifest'];
  return { manifest, tarball: execFileSync('tar', args, { maxBuffer: MOST }) };
}

/**
 * A registry on this machine that package managers install from: packed files, and the packages below a node_modules as they
 * are installed there.
 *
 * @returns `publish` adds another version of a package, or another package, from a packed file
 */
export async function startRegistry(
  tarballs: readonly string[],
  installed: string,
): Promise<{ url: string; publish: (tarball: string) => void; stop: () => void }> {
  /** The versions of each package, the latest first. */
  const published = new Map<string, Published[]>();
  const add = (each: Published): void => {
    const { name } = each.manifest;
    published.set(name, [...(published.get(name) ?? []), each]);
  };
  for (const each of tarballs) add(ofTarball(each));
  const find = (name: string): Published[] | undefined => {
    const folder = join(installed, ...name.split('/'));
    if (!published.has(name) && existsSync(folder)) add(ofFolder(folder));
    return published.get(name);
  };
  const server = createServer((request, response) => {
    const [, name = '', file] =
      /^\/((?:@[^/]+\/)?[^/]+)(?:\/-\/(.+))?$/.exec(decodeURIComponent(request.url ?? '')) ?? [];
    const found = find(name);
    if (!found) {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}');
    } else if (file) {
      const asked = found.find(({ manifest }) => file === `${manifest.version}.tgz`);
      response.writeHead(asked ? 200 : 404, { 'content-type': 'application/octet-stream' }).end(asked?.tarball);
    } else {
      const versions = found.map(({ manifest, tarball }) => {
        const { version } = manifest;
        const dist = {
          tarball: `${url()}${name}/-/${version}.tgz`,
          integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
          shasum: createHash('sha1').update(tarball).digest('hex'),
        };
        return [version, { ...manifest, dist }];
      });
      const packument = { name, 'dist-tags': { latest: versions[0]?.[0] }, versions: Object.fromEntries(versions) };
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(packument));
    }
  });
  const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: url(),
    publish: (tarball) => add(ofTarball(tarball)),
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
