import { computePosition, flip, offset, platform, shift } from '@floating-ui/dom';
import { element } from './dom';

/** The box beside the pointer with a weight's value; what it says is also announced to screen readers. */
export class Tooltip {
  private readonly box = element('div', 'tooltip');
  private announcing: number | undefined;
  private size: { width: number; height: number } | undefined;

  constructor(
    parent: HTMLElement,
    private readonly live: HTMLElement,
  ) {
    this.box.setAttribute('role', 'tooltip');
    this.box.hidden = true;
    parent.append(this.box);
  }

  /** Beside a point of the window, on the side where there is room. */
  show(content: { heading: string; rows: [string, string][] }, x: number, y: number): void {
    const list = element('dl');
    for (const [term, description] of content.rows) {
      list.append(element('dt', '', term), element('dd', '', description));
    }
    this.box.replaceChildren(element('div', 'tooltip-weight', content.heading), list);
    this.box.hidden = false;
    this.size = undefined;
    this.moveTo(x, y);
    // Only where the pointer rests: a screen reader can't say more.
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => {
      this.live.textContent = [content.heading, ...content.rows.map((row) => row.join(' '))].join(', ');
    }, 150);
  }

  moveTo(x: number, y: number): void {
    this.size ??= { width: this.box.offsetWidth, height: this.box.offsetHeight };
    const { size } = this;
    const window = { x: 0, y: 0, width: document.documentElement.clientWidth, height: innerHeight };
    void computePosition({ getBoundingClientRect: () => new DOMRect(x, y, 0, 0) }, this.box, {
      strategy: 'fixed',
      placement: 'right-start',
      middleware: [offset(14), flip({ fallbackPlacements: ['left-start'] }), shift({ padding: 6, crossAxis: true })],
      // All of this is known: asking the document would lay it out at each move.
      platform: {
        ...platform,
        getElementRects: () => ({ reference: { x, y, width: 0, height: 0 }, floating: { x: 0, y: 0, ...size } }),
        getDimensions: () => size,
        getClippingRect: () => window,
        getOffsetParent: () => globalThis.window,
        convertOffsetParentRelativeRectToViewportRelativeRect: ({ rect }) => rect,
        getScale: () => ({ x: 1, y: 1 }),
        isRTL: () => false,
      },
    }).then((place) => {
      this.box.style.transform = `translate(${Math.round(place.x)}px, ${Math.round(place.y)}px)`;
    });
  }

  get visible(): boolean {
    return !this.box.hidden;
  }

  hide(): void {
    this.box.hidden = true;
    clearTimeout(this.announcing);
  }
}
