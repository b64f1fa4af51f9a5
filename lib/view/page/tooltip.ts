import { autoPlacement, computePosition, offset, shift } from '@floating-ui/dom';
import { element } from './dom';

/** The box beside the pointer with a weight's value; what it says is also announced to screen readers. */
export class Tooltip {
  private readonly box = element('div', 'tooltip');
  private announcing: number | undefined;

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
    this.moveTo(x, y);
    // Only where the pointer rests: a screen reader can't say more.
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => {
      this.live.textContent = [content.heading, ...content.rows.map((row) => row.join(' '))].join(', ');
    }, 150);
  }

  moveTo(x: number, y: number): void {
    const point = { getBoundingClientRect: () => new DOMRect(x, y, 0, 0) };
    void computePosition(point, this.box, {
      strategy: 'fixed',
      middleware: [offset(14), autoPlacement({ alignment: 'start' }), shift({ padding: 6, crossAxis: true })],
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
