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
 */
export async function startRegistry(
  tarballs: readonly string[],
  installed: string,
): Promise<{ url: string; stop: () => void }> {
  const published = new Map(tarballs.map(ofTarball).map((each) => [each.manifest.name, each]));
  const find = (name: string): Published | undefined => {
    const folder = join(installed, ...name.split('/'));
    if (!published.has(name) && existsSync(folder)) published.set(name, ofFolder(folder));
    return published.get(name);
  };
  const server = createServer((request, response) => {
    const [, name = '', file] =
      /^\/((?:@[^/]+\/)?[^/]+)(?:\/-\/(.+))?$/.exec(decodeURIComponent(request.url ?? '')) ?? [];
    const found = find(name);
    if (!found) {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}');
    } else if (file) {
      response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(found.tarball);
    } else {
      const { manifest, tarball } = found;
      const { version } = manifest;
      const dist = {
        tarball: `${url()}${name}/-/${version}.tgz`,
        integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
        shasum: createHash('sha1').update(tarball).digest('hex'),
      };
      const packument = { name, 'dist-tags': { latest: version }, versions: { [version]: { ...manifest, dist } } };
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(packument));
    }
  });
  const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: url(),
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
