/// <reference lib="dom" />
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { join } from 'node:path';
import { inflateRawSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { type Attention, ScriptModule, Tensor } from '../../lib';
import { TorchError } from '../../lib/core/errors';
import { TextTokenizer } from '../../lib/text/tokenizer';
import { pageSize } from '../../lib/view/html';
import { LiveServer } from '../../lib/view/live-server';
import { describeInBrowser, PageWindow } from './page-window';

const ROOT = join(__dirname, '../..');
const CLI = join(ROOT, 'dist/cli/main.js');
const MODEL = join(ROOT, 'test/fixtures/cli/text.pt');
const TOKENIZER = join(ROOT, 'test/fixtures/cli/tokenizer.json');

/** Serves a model in a process of its own; `end` tells it to end, as Ctrl+C does. */
async function serve(model: string, ...more: string[]) {
  const child = spawn(process.execPath, [CLI, 'view', model, '--tokenizer', TOKENIZER, '--serve', ...more]);
  let printed = '';
  const address = await new Promise<URL>((resolve, reject) => {
    child.stdout.on('data', (data: Buffer) => {
      printed += data.toString();
      const [line] = /^http:\S+/m.exec(printed) ?? [];
      if (line && printed.includes('Ctrl+C')) resolve(new URL(line));
    });
    child.stderr.on('data', (data: Buffer) => reject(new Error(data.toString())));
    child.on('exit', (code) => reject(new Error(`ended with ${code}`)));
  });
  const end = async () => {
    const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve([code, signal])));
    child.kill('SIGINT');
    return await ended;
  };
  return { address, end };
}

/** Weights at full resolution: of a text, an attention and a head. */
async function fullOf(of: URL, path: string): Promise<Float32Array> {
  const bytes = inflateRawSync(Buffer.from(await (await fetch(new URL(`full/${path}`, of))).arrayBuffer()));
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

let live: Awaited<ReturnType<typeof serve>>;
let address: URL;

beforeAll(async () => {
  // So small that heads of longer texts are there as pictures, and of very long ones nothing fits.
  live = await serve(MODEL, '--title', 'Live <b>', '--max-size', String(pageSize('Live <b>') + 20_000));
  address = live.address;
});

afterAll(async () => {
  expect(await live.end()).toEqual([0, null]);
});

/** A request with any headers; `fetch` doesn't let Host be set. */
function ask(path: string, options: { method?: string; headers?: Record<string, string>; body?: string } = {}) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const { method = 'GET', headers, body } = options;
    const sent = request({ host: address.hostname, port: address.port, path, method, headers }, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => {
        text += data.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** A text that doesn't repeat itself, so that its attention takes room. */
const UNEVEN = Array.from(
  { length: 400 },
  (_, i) => ['the', 'cat', 'sat', 'on', 'mat', '.'][(i * i * 7 + (i >> 2)) % 6],
).join(' ');

const json = { 'Content-Type': 'application/json' };

describe('libtorch-attention view --serve', () => {
  describe('the live page', () => {
    test('answers who has its address, and nobody else', async () => {
      const { pathname, host } = address;
      expect(address.hostname).toBe('127.0.0.1');
      expect(pathname).toMatch(/^\/[\w-]{24}\/$/);
      expect((await ask(pathname)).status).toBe(200);
      expect((await ask('/')).status).toBe(403);
      expect((await ask(`/${'x'.repeat(24)}/`)).status).toBe(403);
      // A name that somebody made point here, or a page of another origin.
      expect((await ask(pathname, { headers: { Host: 'evil.example' } })).status).toBe(403);
      expect((await ask(pathname, { headers: { Host: host, Origin: 'https://evil.example' } })).status).toBe(403);
      expect((await ask(pathname, { headers: { Host: host, Origin: 'null' } })).status).toBe(403);
      expect((await ask(pathname, { headers: { Host: host, Origin: `http://${host}` } })).status).toBe(200);
    });

    test('takes texts as JSON and no more than there is room for', async () => {
      const run = `${address.pathname}run`;
      expect((await ask(run)).status).toBe(405);
      expect((await ask(run, { method: 'POST', body: '{"text":"x"}' })).status).toBe(405);
      expect((await ask(run, { method: 'POST', headers: json, body: '{' })).status).toBe(400);
      expect((await ask(run, { method: 'POST', headers: json, body: '{"text":3}' })).status).toBe(400);
      expect(
        (await ask(run, { method: 'POST', headers: json, body: JSON.stringify({ text: 'x'.repeat(2e6) }) })).status,
      ).toBe(413);
      expect((await ask(`${address.pathname}view/99`)).status).toBe(404);
      expect((await ask(`${address.pathname}../etc/passwd`)).status).toBe(404);
    });

    test('tells of each layer, then where the page is; weights at full resolution are exact', async () => {
      const text = 'the cat sat on the mat . '.repeat(12);
      const { body } = await ask(`${address.pathname}run`, {
        method: 'POST',
        headers: json,
        body: JSON.stringify({ text }),
      });
      const lines = body
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(lines).toEqual([{ layers: 1 }, { layers: 2 }, { view: expect.stringMatching(/^view\/\d+$/) }]);
      const page = await ask(address.pathname + lines.at(-1)?.view);
      expect(page.body).toContain("connect-src 'self'");
      const model = await ScriptModule.load(MODEL);
      const { ids } = (await TextTokenizer.load(TOKENIZER)).encode(text);
      const { attentions } = await model.captureAttention([Tensor.from([ids], { dtype: 'int64' })]);
      for (const [layer, head] of [
        [0, 2],
        [1, 0],
      ] as const) {
        const weights = await fullOf(address, `0/${layer}/${head}`);
        const all = (attentions[layer] as Attention).weights.select(0, 0);
        expect(weights).toEqual(all.select(0, head).toTypedArray());
      }
      model.dispose();
      const refused = await ask(`${address.pathname}full/0/9/0`);
      expect([refused.status, refused.body]).toEqual([500, expect.stringMatching(/Expected an attention of the run/)]);
    });

    test('of a head at full resolution masked cells are those of all heads, not all that are 0', async () => {
      const sharp = await serve(join(ROOT, 'test/fixtures/cli/sharp.pt'));
      try {
        const body = JSON.stringify({ text: 'the cat sat' });
        await (await fetch(new URL('run', sharp.address), { method: 'POST', headers: json, body })).text();
        const [first, second, mean] = await Promise.all([0, 1, 2].map((head) => fullOf(sharp.address, `0/0/${head}`)));
        const MASKED = -0;
        const at = (list: Float32Array | undefined, row: number, column: number) => list?.[row * 5 + column];
        for (let row = 0; row < 5; row++) {
          for (let column = 0; column < 5; column++) {
            const later = column > row;
            expect(at(first, row, column)).toBe(later ? MASKED : row === column ? 1 : 0);
            expect(at(second, row, column)).toBe(later ? MASKED : Math.fround(1 / (row + 1)));
            expect(Object.is(at(mean, row, column), MASKED)).toBe(later);
          }
        }
      } finally {
        await sharp.end();
      }
    });

    test('pages are kept as far as there is room, the last one whatever its size', async () => {
      let size = 60e6;
      const view = () => {
        const full = () => Promise.resolve(new Float32Array());
        return Promise.resolve({ html: Buffer.from('a page'), heldBytes: size, full });
      };
      const server = new LiveServer({ title: '', fields: [], view }, '127.0.0.1');
      const href = await server.listen(0);
      const run = async () => {
        const answer = await fetch(new URL('run', href), { method: 'POST', headers: json, body: '{"text":"x"}' });
        return (JSON.parse(await answer.text()) as { view: string }).view;
      };
      const statuses = async (views: string[]) =>
        await Promise.all(views.map(async (path) => (await fetch(new URL(path, href))).status));
      try {
        const views = [await run(), await run()];
        expect(await statuses(views)).toEqual([410, 200]);
        size = 15e6;
        views.push(await run(), await run());
        expect(await statuses(views)).toEqual([410, 200, 200, 200]);
        size = 1e9;
        views.push(await run());
        expect(await statuses(views)).toEqual([410, 410, 410, 410, 200]);
        expect(await (await fetch(new URL('view/0', href))).text()).toMatch(/too long ago.*run it again/);
        expect(await statuses(['view/5', 'view/x'])).toEqual([404, 404]);
      } finally {
        await server.close();
      }
    });
  });

  describeInBrowser('the live page in a browser', () => {
    const at = new PageWindow();
    let page: Page;
    beforeEach(async () => {
      page = at.page;
      await page.goto(address.href);
    });

    test('a text is typed and seen, another one too, and what was chosen stays', async () => {
      expect(await page.locator('h1').textContent()).toBe('Live <b>');
      expect(await page.locator('textarea:visible').count()).toBe(1);
      await page.locator('textarea[name=text]').fill('the cat sat');
      await page.keyboard.press('Enter');
      const frame = page.frameLocator('iframe');
      await frame.locator('.tile').first().waitFor();
      expect(await page.locator('.live-status').textContent()).toMatch(/^Done in \d+\.\d s\.$/);
      await frame.locator('#views [data-view=text]').click();
      expect(await frame.locator('.word').allTextContents()).toEqual(['[CLS]', 'the', 'cat', 'sat', '[SEP]']);
      await page.waitForFunction(() =>
        /view=text/.test((document.querySelector('iframe') as HTMLIFrameElement).contentWindow?.location.hash ?? ''),
      );
      await page.locator('textarea[name=text]').fill('the dog ran');
      await page.locator('.primary').click();
      await frame.locator('.word', { hasText: 'dog' }).waitFor();
    });

    test('heads that the page has as pictures are fetched when they are looked at', async () => {
      await page.locator('textarea[name=text]').fill(UNEVEN);
      await page.keyboard.press('Enter');
      const frame = page.frameLocator('iframe');
      await frame.locator('.tile').first().click();
      await frame.locator('#matrix .matrix-body').waitFor();
      // Of the first layer there is no room for more.
      await frame.locator('#layer').selectOption('0');
      await frame.locator('#head').selectOption('0');
      await frame.locator('#precision', { hasText: 'exactly, from the model' }).waitFor();
      await frame.locator('#matrix .matrix-body').hover();
      expect(await frame.locator('.tooltip').textContent()).toMatch(/^\d\.?[\de.-]*query.*row sum1\.0000/);
      expect(at.requests.filter((url) => url.includes('/full/'))).toHaveLength(1);
      // Without an answer the page says what it has.
      await page.route('**/full/**', (route) => route.fulfill({ status: 410, body: '' }));
      await frame.locator('#head').selectOption('1');
      await frame.locator('#precision', { hasText: 'did not answer' }).waitFor();
      expect(await frame.locator('#precision').textContent()).toMatch(
        /not answer\. Of this head the page has a picture/,
      );
      expect(await frame.locator('#picture-note').textContent()).toMatch(/each cell the largest of/);
      at.errors.splice(0);
    });
  });

  describeInBrowser('a model that fails, or takes its time', () => {
    const at = new PageWindow();
    let aborted = 0;
    const server = new LiveServer(
      {
        title: 'Fails',
        fields: ['textPair', 'decoderText'],
        required: ['textPair'],
        view: async ({ text, textPair }, _base, signal, onProgress) => {
          onProgress(7);
          if (text === 'fail') throw new TorchError('ERR_MODEL_RUN', `no such thing: ${textPair} <i>`);
          return await new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              aborted++;
              reject(signal.reason as Error);
            });
          });
        },
      },
      '127.0.0.1',
    );
    let href = '';
    beforeAll(async () => {
      href = await server.listen(0);
    });
    afterAll(() => server.close());

    test('says so in the page, runs on, and stops when it is told to', async () => {
      const { page } = at;
      await page.goto(href);
      expect(await page.locator('textarea:visible').count()).toBe(3);
      const required = page.locator('textarea[required]');
      expect(await required.evaluateAll((areas) => areas.map((area) => (area as HTMLTextAreaElement).name))).toEqual([
        'text',
        'textPair',
      ]);
      await page.locator('[name=text]').fill('fail');
      await page.locator('[name=textPair]').fill('a pair');
      await page.keyboard.press('Enter');
      await page.locator('.live-error:visible').waitFor();
      expect(await page.locator('.live-error').textContent()).toBe('no such thing: a pair <i> [ERR_MODEL_RUN]');
      expect(await page.locator('#stop').isVisible()).toBe(false);
      await page.locator('[name=text]').fill('wait');
      await page.keyboard.press('Enter');
      await page.locator('.live-status', { hasText: '7 layers' }).waitFor();
      expect(await page.locator('.live-error').isVisible()).toBe(false);
      await page.locator('#stop').click();
      await page.locator('.live-status', { hasText: 'Stopped.' }).waitFor();
      expect(await page.locator('#stop').isVisible()).toBe(false);
      expect(await page.locator('iframe').isVisible()).toBe(false);
    });

    test('a run ends with the connection of who asked for it', async () => {
      const { page } = at;
      await page.goto(href);
      await page.locator('[name=textPair]').fill('a pair');
      await page.locator('[name=text]').fill('wait');
      await page.keyboard.press('Enter');
      await page.locator('.live-status', { hasText: '7 layers' }).waitFor();
      await page.goto('about:blank');
      await page.goto(href);
      await page.locator('[name=textPair]').fill('a pair');
      await page.locator('[name=text]').fill('fail');
      await page.keyboard.press('Enter');
      await page.locator('.live-error:visible').waitFor();
      expect(aborted).toBe(2);
    });

    test('an address that is taken is an error of its own', async () => {
      const second = new LiveServer({ title: '', fields: [], view: () => Promise.reject(new Error()) }, '127.0.0.1');
      await expect(second.listen(Number(new URL(href).port))).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    });
  });
});
