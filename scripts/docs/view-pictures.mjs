// Takes the screenshots of every view in docs/view, light and dark: of a text in MiniLM, and of a picture whose attention is made up.
// Usage: node scripts/docs/view-pictures.mjs MINILM.pt TOKENIZER.json [FOLDER]. The model is examples/gallery/sentence.py's, traced with
// input_ids, attention_mask and token_type_ids. Needs a build, and Chromium.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('../..', import.meta.url));
const { encodePng } = require('../../dist/view/png.js');
const { renderExamples } = require('../../dist/view/render-view.js');
const { CHROMIUM } = require('../../test/chromium.cjs');

const CAT = 'The cat sat on the mat because it was warm. The unbelievable kitten slept on the carpet.';
const DOG = 'The dog sat on the mat because it was cold. The unbelievable puppy slept on the carpet.';
const TITLE = 'all-MiniLM-L6-v2';
const WINDOW = { width: 1280, height: 800 };
/** Of a lossy picture: words stay sharp, and of noise not every pixel has to be right. */
const QUALITY = 0.82;

const SHOTS = [
  ['model', 'long', 'arrange=pattern&attention=3&head=5'],
  ['heads', 'short', 'view=heads&attention=2&heads=0_4_8_11&locked=9&fadeSpecial=1'],
  ['matrix', 'long', 'view=matrix&attention=3&head=5&locked=149'],
  ['text', 'long', 'view=text&attention=3&head=5&locked=149'],
  ['image', 'image', 'view=image&attention=2&head=4&locked=87'],
  ['compare', 'short', 'view=compare&attention=2&head=3&other=1_2_3&locked=8'],
];

const [model, tokenizer, target = join(root, 'docs/view')] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'view-pictures-'));
const path = (name) => join(folder, `${name}.html`);
try {
  const words = readFileSync(new URL('lighthouse.txt', import.meta.url), 'utf8').trim();
  view('long', '--text', shortenedTo(510, `${words} ${words}`));
  view('short', '--text', CAT, '--text', DOG);
  writeFileSync(path('image'), await imagePage());
  mkdirSync(target, { recursive: true });
  await takeAll();
} finally {
  rmSync(folder, { recursive: true });
}

function view(name, ...texts) {
  const cli = join(root, 'dist/cli/main.js');
  const args = [cli, 'view', model, '--tokenizer', tokenizer, ...texts, '--title', TITLE, '--out', path(name)];
  execFileSync(process.execPath, args, { stdio: 'inherit' });
}

/** As much of a text as so many tokens take. */
function shortenedTo(count, text) {
  const { Tokenizer } = require('@huggingface/tokenizers');
  const encoder = new Tokenizer(JSON.parse(readFileSync(tokenizer, 'utf8')), {});
  const parts = text.split(' ');
  const length = (n) => encoder.encode(parts.slice(0, n).join(' ')).ids.length;
  let words = Math.min(parts.length, count);
  while (length(words) > count + 2) words--;
  return parts.slice(0, words).join(' ');
}

async function takeAll() {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  const encoder = await browser.newPage();
  for (const colorScheme of ['light', 'dark']) {
    const page = await browser.newPage({ viewport: WINDOW, colorScheme });
    for (const [name, file, hash] of SHOTS) {
      await page.goto('about:blank');
      await page.goto(`${pathToFileURL(path(file))}#${hash}`);
      await page.locator('.app.ready').waitFor({ timeout: 60_000 });
      if (name === 'compare')
        await page.waitForFunction(() => document.querySelectorAll('.ranked').length > 60, null, { timeout: 120_000 });
      await page.waitForTimeout(500);
      const png = await page.screenshot();
      const webp = await encoder.evaluate(encode, [png.toString('base64'), QUALITY]);
      writeFileSync(join(target, `${name}-${colorScheme}.webp`), Buffer.from(webp, 'base64'));
      if (process.env.PNG) writeFileSync(join(target, `${name}-${colorScheme}.png`), png);
    }
    await page.close();
  }
  await browser.close();
}

/** Runs in the browser: a PNG as WebP, both base64. */
async function encode([png, quality]) {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext('2d').drawImage(image, 0, 0);
  return canvas.toDataURL('image/webp', quality).split(',')[1];
}

/** A house on a meadow; patches look at their neighbours and at what has their colour, each head further than the one before. */
async function imagePage() {
  const [side, patches, layers, heads] = [448, 14, 4, 6];
  const pixels = new Uint32Array(side * side);
  const colour = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let c = colour(120 + y / 6, 170 + y / 8, 225);
      if (y > 260) c = colour(60 + ((x * 7 + y * 13) % 20), 130 + ((x * 3 + y * 5) % 25), 70);
      if ((x - 330) ** 2 + (y - 90) ** 2 < 1600) c = colour(250, 205, 60);
      if (x > 130 && x < 270 && y > 200 && y < 350) c = colour(165, 100, 70);
      if (y > 110 && y <= 200 && Math.abs(x - 200) < (y - 110) * 0.95) c = colour(170, 45, 40);
      if (x > 180 && x < 222 && y > 270 && y < 350) c = colour(225, 210, 180);
      pixels[y * side + x] = c;
    }
  }
  const count = patches * patches + 1;
  const place = (i) => [Math.floor((i - 1) / patches), (i - 1) % patches];
  const shade = (i) => {
    const [row, column] = place(i);
    const at = (k) => Math.floor(((k + 0.5) * side) / patches);
    const c = pixels[at(row) * side + at(column)];
    return [c & 255, (c >> 8) & 255];
  };
  const attentions = Array.from({ length: layers }, (_, layer) => {
    const data = new Float32Array(heads * count * count);
    for (let head = 0; head < heads; head++) {
      for (let query = 0; query < count; query++) {
        const start = (head * count + query) * count;
        let sum = 0;
        for (let key = 0; key < count; key++) {
          let value = 0.02 + 0.05 * (((query * 31 + key * 17 + head * 7 + layer * 3) % 23) / 23);
          if (key === 0) value += 0.4 * head;
          else if (query > 0) {
            const [[y1, x1], [y2, x2]] = [place(query), place(key)];
            const near = Math.exp(-((x1 - x2) ** 2 + (y1 - y2) ** 2) / (2 * (0.5 + head) ** 2));
            const [[r1, g1], [r2, g2]] = [shade(query), shade(key)];
            const alike = Math.exp(-(Math.abs(r1 - r2) + Math.abs(g1 - g2)) / 20);
            value += near * (2 - head * 0.2) * (1 + layer) * (0.3 + alike);
          }
          data[start + key] = value;
          sum += value;
        }
        for (let key = 0; key < count; key++) data[start + key] /= sum;
      }
    }
    return {
      name: `vit.encoder.layer.${layer}.attention`,
      operator: 'scaled_dot_product_attention',
      weights: { shape: [1, heads, count, count], data },
      heads: Array.from({ length: heads }, (_, i) => i),
      queries: Array.from({ length: count }, (_, i) => i),
    };
  });
  const url = `data:image/png;base64,${encodePng(pixels, side, side).toString('base64')}`;
  const image = { url, size: { width: side, height: side }, patches: [patches, patches], prefix: 1 };
  return renderExamples([{ title: 'a house', attentions, image }], { title: 'ViT', maxSize: 2e7 });
}
