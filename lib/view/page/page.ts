import type { ViewData } from '../view-data';
import { isDark } from './colour';
import { drawLegend } from './legend';
import { LinesView } from './lines-view';
import { MatrixView } from './matrix-view';
import { describeKind, Overview } from './overview';
import { RowSummary } from './row-summary';
import { type ColourScale, headName, type Selection, State } from './state';
import { Tooltip } from './tooltip';
import { Weights } from './weights';

const MARKUP = `
  <header class="bar">
    <h1></h1>
    <label class="examples">Example <select id="example"></select></label>
    <button type="button" id="theme" class="quiet"></button>
  </header>
  <main>
    <nav class="overview" aria-label="Layers and heads"></nav>
    <section class="detail" aria-labelledby="detail-title">
      <div class="detail-head">
        <div>
          <h2 id="detail-title"></h2>
          <p class="subtitle"></p>
        </div>
        <div class="tools">
          <div class="segmented" role="group" aria-label="View">
            <button type="button" data-view="matrix">Matrix</button><button type="button" data-view="lines">Lines</button>
          </div>
          <label id="all-heads-label"><input type="checkbox" id="all-heads"> all heads</label>
          <label>Colours <select id="scale">
            <option value="maximum">0 to the head’s largest</option>
            <option value="root">the same, small ones lifted (√)</option>
            <option value="one">0 to 1</option>
          </select></label>
          <div class="segmented" id="zoom" role="group" aria-label="Zoom">
            <button type="button" data-zoom="out" aria-label="Zoom out">−</button><button type="button" data-zoom="fit">Fit</button><button type="button" data-zoom="in" aria-label="Zoom in">+</button>
          </div>
        </div>
      </div>
      <div class="detail-body">
        <div class="picture">
          <div id="matrix"></div>
          <div id="lines" hidden></div>
        </div>
        <aside class="side">
          <svg class="legend" role="img"></svg>
          <div class="row-summary"></div>
          <p class="note"></p>
        </aside>
      </div>
    </section>
  </main>
  <p class="visually-hidden" id="live" aria-live="polite"></p>`;

function start(): void {
  const data = JSON.parse(document.getElementById('view-data')?.textContent ?? '') as Omit<ViewData, 'weights'> & {
    title: string;
  };
  const app = document.createElement('div');
  app.className = 'app';
  app.innerHTML = MARKUP;
  document.body.append(app);
  const find = <T extends Element = HTMLElement>(selector: string) => app.querySelector<T>(selector) as T;
  find('h1').textContent = data.title;

  if (!data.examples.some(({ attentions }) => attentions.length)) {
    find('main').innerHTML = '<p class="hint">No attention was captured.</p>';
    return;
  }
  const state = new State(data);
  const weights = new Weights(data.encoding);
  const tooltip = new Tooltip(app, find('#live'));
  const summary = new RowSummary(find('.row-summary'), state, weights);
  const onRow = (row: number | null) => summary.update(row);
  const overview = new Overview(find('.overview'), state);
  const matrix = new MatrixView(find('#matrix'), state, weights, tooltip, onRow);
  const lines = new LinesView(find('#lines'), state, weights, onRow);

  bindTools(state, find);
  if (data.encoding === 'float16') {
    find('.note').textContent =
      'Weights are stored as float16 to keep this file small: three significant digits are exact.';
  }

  const update = (selection: Selection, before: Selection | null, repaint = false) => {
    const { attention } = state;
    find('#detail-title').textContent = `${attention.label}, ${headName(attention, selection.head)}`;
    const kind = describeKind(attention, state.example.attentions);
    const size = `${attention.rows} queries × ${attention.columns} keys`;
    find('.subtitle').textContent = [kind, attention.name, attention.operator, size].filter(Boolean).join(' · ');
    overview.update(repaint);
    drawLegend(find<SVGSVGElement>('.legend'), selection.scale, weights.matrix(attention, selection.head).maximum);
    reflectTools(selection, find);
    const onlyLock = !repaint && before && sameButLock(selection, before);
    if (!onlyLock) tooltip.hide();
    const view = selection.view === 'matrix' ? matrix : lines;
    if (onlyLock) view.updateLock();
    else view.update();
    summary.update(selection.lockedRow);
  };
  state.onChange(update);
  update(state.current, null, true);

  let width = window.innerWidth;
  new ResizeObserver(() => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    update(state.current, null);
  }).observe(document.documentElement);
  const repaint = () => update(state.current, null, true);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
  find('#theme').addEventListener('click', () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    repaint();
  });
  document.addEventListener('keydown', (event) => onKey(event, overview, state));
}

function sameButLock(a: Selection, b: Selection): boolean {
  return (Object.keys(a) as (keyof Selection)[]).every((key) => key === 'lockedRow' || a[key] === b[key]);
}

function onKey(event: KeyboardEvent, overview: Overview, state: State): void {
  const steps: Record<string, [number, number]> = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -Infinity],
    End: [0, Infinity],
  };
  if (event.ctrlKey || event.altKey || event.metaKey || (event.target as Element).closest('select, input')) return;
  const step = steps[event.key];
  if (step) {
    overview.move(...step);
    event.preventDefault();
  } else if (event.key === 'Escape') {
    state.set({ lockedRow: null });
  }
}

type Find = <T extends Element = HTMLElement>(selector: string) => T;

function bindTools(state: State, find: Find): void {
  const example = find<HTMLSelectElement>('#example');
  example.append(...state.data.examples.map(({ title }, i) => new Option(title, String(i))));
  find('.examples').hidden = state.data.examples.length < 2;
  example.addEventListener('change', () => state.set({ example: Number(example.value) }));
  const scale = find<HTMLSelectElement>('#scale');
  scale.addEventListener('change', () => state.set({ scale: scale.value as ColourScale }));
  const allHeads = find<HTMLInputElement>('#all-heads');
  allHeads.addEventListener('change', () => state.set({ allHeads: allHeads.checked }));
  find('.tools').addEventListener('click', (event) => {
    const { view, zoom } = (event.target as HTMLElement).dataset;
    if (view === 'matrix' || view === 'lines') state.set({ view });
    const factor = zoom === 'in' ? 1.5 : 1 / 1.5;
    if (zoom) state.set({ zoom: zoom === 'fit' ? 1 : Math.max(1, Math.min(state.current.zoom * factor, 16)) });
  });
}

function reflectTools({ example, view, scale, allHeads }: Selection, find: Find): void {
  find<HTMLSelectElement>('#example').value = String(example);
  find<HTMLSelectElement>('#scale').value = scale;
  find<HTMLInputElement>('#all-heads').checked = allHeads;
  for (const button of find('.tools').querySelectorAll<HTMLElement>('[data-view]')) {
    button.setAttribute('aria-pressed', String(button.dataset.view === view));
  }
  find('#all-heads-label').hidden = view !== 'lines';
  find('#zoom').hidden = view !== 'matrix';
  find('#matrix').hidden = view !== 'matrix';
  find('#lines').hidden = view !== 'lines';
  find<SVGSVGElement>('.legend').toggleAttribute('hidden', view !== 'matrix');
  find('#theme').textContent = isDark() ? 'Light' : 'Dark';
  find('#theme').setAttribute('aria-label', isDark() ? 'Switch to light colours' : 'Switch to dark colours');
}

start();
