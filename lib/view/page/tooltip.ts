/** The box beside the pointer with a weight's exact value; what it says is also announced to screen readers. */
export class Tooltip {
  private readonly box: HTMLElement;

  constructor(
    parent: HTMLElement,
    private readonly live: HTMLElement,
  ) {
    this.box = document.createElement('div');
    this.box.className = 'tooltip';
    this.box.setAttribute('role', 'tooltip');
    this.box.hidden = true;
    parent.append(this.box);
  }

  show({ weight, rows }: { weight: string; rows: [string, string][] }): void {
    const value = document.createElement('div');
    value.className = 'tooltip-weight';
    value.textContent = weight;
    const list = document.createElement('dl');
    for (const [term, description] of rows) {
      const dt = document.createElement('dt');
      dt.textContent = term;
      const dd = document.createElement('dd');
      dd.textContent = description;
      list.append(dt, dd);
    }
    this.box.replaceChildren(value, list);
    this.box.hidden = false;
    this.live.textContent = `${weight}, ${rows.map(([term, description]) => `${term} ${description}`).join(', ')}`;
  }

  /** Beside a point of the window, on the side where there is room. */
  moveTo(x: number, y: number): void {
    const { offsetWidth, offsetHeight } = this.box;
    const right = x + 16 + offsetWidth < window.innerWidth ? x + 16 : x - 16 - offsetWidth;
    const below = y + 16 + offsetHeight < window.innerHeight ? y + 16 : y - 16 - offsetHeight;
    this.box.style.transform = `translate(${Math.max(4, right)}px, ${Math.max(4, below)}px)`;
  }

  hide(): void {
    this.box.hidden = true;
  }
}
