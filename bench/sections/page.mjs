import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { quantile } from '../measure.mjs';
import { megabytes } from '../report.mjs';

const { CHROMIUM } = createRequire(import.meta.url)('../../test/chromium.cjs');

export const about =
  'the page of attention: its size and first picture, pointing, moving, switching heads; what writing it takes';
export const models = ['bert.pt', 'peaked.pt'];

const WRITER = fileURLToPath(new URL('../peers/view-writer.mjs', import.meta.url));
const WINDOW = { width: 1280, height: 800 };

/** Pages, and what they are to keep to. */
const PAGES = [
  { file: 'peaked.pt', layers: 12, tokens: 128, firstPicture: 1000 },
  { file: 'bert.pt', layers: 6, tokens: 512, firstPicture: 2000 },
  { file: 'peaked.pt', layers: 12, tokens: 4096, firstPicture: 2000, long: true },
];
const LIMITS = { page: 20e6, frames: 30, switching: 350, renderer: 500e6, writer: 1.5e9 };
/** Milliseconds in which frames are counted. */
const SPELL = 2000;
const SWITCHES = 6;
const OPENINGS = 3;

export async function run({ report, models: files, quick, long }) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-page-'));
  const rows = [];
  try {
    for (const page of PAGES.filter(({ file }) => files.has(file))) {
      const name = `${page.layers} × 12 × ${page.tokens}`;
      if (page.long && !long) {
        report.leftOut(name, '--long takes it');
        continue;
      }
      const tokens = quick ? 64 : page.tokens;
      const path = join(folder, `${tokens}.html`);
      const written = write(files.path(page.file), tokens, path);
      const shown = CHROMIUM ? await measure(CHROMIUM, path) : {};
      rows.push({ name, ...page, written, ...shown });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  if (!CHROMIUM) report.leftOut('what the page does', 'no Chromium was found; CHROMIUM_PATH names one');
  print(report, rows);
}

function write(model, tokens, path) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [WRITER, model, String(tokens), path], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

function print(report, rows) {
  const ms = (value) => (value === undefined ? '' : value.toFixed(0));
  const lines = [
    ['page, MB', ({ written }) => (written.bytes / 1e6).toFixed(1)],
    ['writing: s', ({ written }) => (written.ms / 1000).toFixed(1)],
    ['writing: peak', ({ written }) => (written.peak ? megabytes(written.peak) : '')],
    ['first picture, ms', ({ first }) => ms(first)],
    ['switching heads, ms', ({ switching }) => ms(switching)],
    ['pointing at the matrix, frames a second', ({ matrix }) => ms(matrix)],
    ['moving it enlarged, frames a second', ({ moving }) => ms(moving)],
    ['pointing at the text, frames a second', ({ text }) => ms(text)],
    ['pointing at lines, frames a second', ({ heads }) => ms(heads)],
    ['renderer, peak', ({ renderer }) => (renderer ? megabytes(renderer) : '')],
  ].map(([title, value]) => [title, ...rows.map(value)]);
  report.table(
    `Layers × heads × tokens, ${WINDOW.width} × ${WINDOW.height}, software rendering`,
    rows.map(({ name }) => name),
    lines,
    { rows },
  );
  for (const { name, written, first, firstPicture, switching, renderer, ...frames } of rows) {
    const goal = (what, value, limit, options) => {
      if (value !== undefined && value !== null) report.goal(`${name}: ${what}`, value, limit, options);
    };
    goal('page', written.bytes / 1e6, LIMITS.page / 1e6, { unit: ' MB', digits: 1 });
    goal('writing it, peak', written.peak && written.peak / 1e9, LIMITS.writer / 1e9, { unit: ' GB' });
    goal('first picture', first, firstPicture, { unit: ' ms', digits: 0 });
    goal('switching heads', switching, LIMITS.switching, { unit: ' ms', digits: 0 });
    for (const [key, what] of [
      ['matrix', 'pointing at the matrix'],
      ['moving', 'moving it'],
      ['text', 'pointing at the text'],
      ['heads', 'pointing at lines'],
    ])
      goal(what, frames[key], LIMITS.frames, { unit: ' frames a second', digits: 0, atLeast: true });
    goal('renderer, peak', renderer && renderer / 1e6, LIMITS.renderer / 1e6, { unit: ' MB', digits: 0 });
  }
}

/** All figures of a page in a browser; each view in a window of its own. */
export async function measure(executablePath, path) {
  const server = await chromium.launchServer({ executablePath, args: ['--no-sandbox'] });
  const browser = await chromium.connect(server.wsEndpoint());
  const open = async (hash) => {
    const page = await browser.newPage({ viewport: WINDOW });
    await page.addInitScript(watch);
    await page.goto(`${pathToFileURL(path)}#${hash}`);
    await page.locator('.app.ready').waitFor({ timeout: 120_000 });
    return page;
  };
  try {
    const figures = {};
    const firsts = [];
    for (let i = 0; i < OPENINGS; i++) {
      const page = await open('');
      firsts.push(await page.evaluate(() => globalThis.firstPicture));
      await page.close();
    }
    figures.first = quantile(firsts, 0.5);

    const page = await open('view=matrix&attention=0');
    const times = [];
    for (let i = 0; i < SWITCHES; i++) times.push(await page.evaluate(switchHead));
    figures.switching = quantile(times, 0.5);
    const box = await page.locator('#matrix .matrix-body').boundingBox();
    const at = (x, y) => page.mouse.move(box.x + x * box.width, box.y + y * box.height);
    figures.matrix = await framesOf(page, (i) => at((i * 0.0137) % 1, (i * 0.0071) % 1));
    await at(0.5, 0.5);
    for (let i = 0; i < 8; i++) await page.mouse.wheel(0, -240);
    await page.mouse.down();
    figures.moving = await framesOf(page, (i) => at(0.5 + 0.35 * Math.sin(i / 15), 0.5 + 0.35 * Math.cos(i / 11)));
    await page.mouse.up();
    const peaks = [rendererPeak(server.process().pid)];
    await page.close();

    for (const [view, selector] of [
      ['text', '#text .running-text'],
      ['heads', '.lines-scroll'],
    ]) {
      const other = await open(`view=${view}&attention=0`);
      const area = await other.locator(selector).boundingBox();
      const height = Math.min(area.height, WINDOW.height - area.y) - 40;
      const x = view === 'heads' ? area.x + 20 : undefined;
      figures[view] = await framesOf(other, (i) =>
        other.mouse.move(
          x ?? area.x + ((i * 0.0173) % 1) * area.width,
          area.y + 30 + ((i * 0.0091) % 1) * (height - 40),
        ),
      );
      peaks.push(rendererPeak(server.process().pid));
      await other.close();
    }
    // Each view has a renderer of its own, whose peak ends with it.
    const known = peaks.filter((peak) => peak !== undefined);
    figures.renderer = known.length ? Math.max(...known) : undefined;
    return figures;
  } finally {
    await browser.close();
    await server.close();
  }
}

/** Runs in the page, ahead of its own code: when there was a first picture, and when cells were last drawn. */
function watch() {
  const seen = new MutationObserver(() => {
    if (!document.querySelector('.app.ready')) return;
    seen.disconnect();
    // The frame in which it is painted, and the one after that.
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        globalThis.firstPicture = performance.now();
      }),
    );
  });
  seen.observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['class'] });
}

/** Runs in the page: the milliseconds until the next head is painted. */
async function switchHead() {
  const canvas = document.querySelector('#matrix .matrix-body canvas');
  const context = canvas.getContext('2d');
  const draw = context.drawImage;
  const start = performance.now();
  await new Promise((resolve) => {
    context.drawImage = (...given) => {
      draw.apply(context, given);
      context.drawImage = draw;
      resolve();
    };
    document.querySelector('#next-head').click();
  });
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return performance.now() - start;
}

/** Frames a second while the pointer goes from place to place as fast as the page takes it. */
async function framesOf(page, move) {
  await page.evaluate(() => {
    globalThis.frames_ = 0;
    globalThis.counting = true;
    const count = () => {
      if (!globalThis.counting) return;
      globalThis.frames_++;
      requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
  });
  const start = performance.now();
  for (let i = 0; performance.now() - start < SPELL; i++) await move(i);
  const count = await page.evaluate(() => {
    globalThis.counting = false;
    return globalThis.frames_;
  });
  return (1000 * count) / (performance.now() - start);
}

/** The most memory that a renderer of a browser held; undefined where the system doesn't tell. */
function rendererPeak(browser) {
  let most;
  try {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const read = (file) => readFileSync(`/proc/${pid}/${file}`, 'utf8');
      try {
        if (!read('cmdline').includes('--type=renderer') || !isBelow(pid, browser)) continue;
        const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(read('status'))?.[1]) * 1024;
        most = Math.max(most ?? 0, peak);
      } catch {
        // It ended meanwhile.
      }
    }
  } catch {
    return undefined;
  }
  return most;
}

function isBelow(pid, ancestor) {
  for (let at = Number(pid); at > 1; ) {
    if (at === ancestor) return true;
    at = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${at}/status`, 'utf8'))?.[1]);
  }
  return false;
}
