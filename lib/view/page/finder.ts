import { element, find } from './dom';
import { findMatches, type Match, type Searched } from './find-matches';
import type { State } from './state';

const MARKUP = `
  <input type="text" role="combobox" aria-expanded="true" aria-autocomplete="list" aria-controls="found-list" autocomplete="off"
    spellcheck="false" aria-label="Find a token, a position, a head, a view" placeholder="A token, a position, a head like 3.5, previous token …">
  <ul id="found-list" role="listbox" aria-label="Found"></ul>
  <p class="hint" role="status"></p>`;

/** Goes to a head, a token or a view by what is typed. */
export class Finder {
  private readonly dialog = element('dialog', 'finder');
  private readonly input: HTMLInputElement;
  private readonly list: HTMLElement;
  private matches: Match[] = [];
  private chosen = 0;

  constructor(
    parent: HTMLElement,
    private readonly button: HTMLButtonElement,
    private readonly state: State,
    private readonly searched: () => Pick<Searched, 'views'>,
  ) {
    this.dialog.innerHTML = MARKUP;
    this.dialog.setAttribute('aria-label', 'Find');
    parent.append(this.dialog);
    this.input = find(this.dialog, 'input');
    this.list = find(this.dialog, '#found-list');
    const isMac = /mac|iphone|ipad/i.test(navigator.userAgent);
    button.append(' ', element('kbd', '', isMac ? '⌘K' : 'Ctrl K'));
    button.setAttribute('aria-keyshortcuts', isMac ? 'Meta+K' : 'Control+K');
    button.addEventListener('click', () => this.open());
    document.addEventListener('keydown', (event) => {
      if (event.key.toLowerCase() !== 'k' || event.shiftKey || event.altKey || !(isMac ? event.metaKey : event.ctrlKey))
        return;
      event.preventDefault();
      this.open();
    });
    this.input.addEventListener('input', () => this.search());
    this.input.addEventListener('keydown', (event) => this.onKey(event));
    this.list.addEventListener('click', (event) => {
      const node = (event.target as Element).closest<HTMLElement>('[role=option]');
      if (node) this.go(Number(node.dataset.index));
    });
    // The surface around the box is the dialog itself.
    this.dialog.addEventListener('pointerdown', (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  private open(): void {
    if (this.dialog.open) return;
    this.input.value = '';
    this.dialog.showModal();
    this.input.focus();
    this.search();
  }

  private search(): void {
    const { state } = this;
    const { value } = this.input;
    const searched = {
      ...this.searched(),
      example: state.example,
      examples: state.data.examples,
      current: state.current,
    };
    const { matches, count } = findMatches(searched, value);
    this.matches = matches;
    this.list.replaceChildren(
      ...matches.map(({ kind, text, note }, i) => {
        const option = element('li', 'found');
        option.setAttribute('role', 'option');
        option.id = `found-${i}`;
        option.dataset.index = String(i);
        option.append(element('bdi', 'found-text', text), ' ', element('span', 'found-note', note || kind));
        return option;
      }),
    );
    this.list.hidden = matches.length === 0;
    this.input.setAttribute('aria-expanded', String(matches.length > 0));
    const more = count > matches.length ? ` The first ${matches.length} are listed.` : '';
    const said = `${count.toLocaleString('en')} found.${more}`;
    find(this.dialog, '.hint').textContent = value.trim() === '' ? '' : count ? said : 'Nothing found.';
    this.choose(0);
  }

  private choose(index: number): void {
    this.chosen = index;
    for (const [i, option] of [...this.list.children].entries()) {
      option.setAttribute('aria-selected', String(i === index));
      if (i === index) option.scrollIntoView({ block: 'nearest' });
    }
    if (this.matches.length) this.input.setAttribute('aria-activedescendant', `found-${index}`);
    else this.input.removeAttribute('aria-activedescendant');
  }

  private onKey(event: KeyboardEvent): void {
    const last = this.matches.length - 1;
    const to: Record<string, () => void> = {
      ArrowDown: () => this.choose(this.chosen >= last ? 0 : this.chosen + 1),
      ArrowUp: () => this.choose(this.chosen <= 0 ? last : this.chosen - 1),
      PageDown: () => this.choose(Math.min(last, this.chosen + 8)),
      PageUp: () => this.choose(Math.max(0, this.chosen - 8)),
      Enter: () => this.go(this.chosen),
    };
    const action = to[event.key];
    if (!action || event.isComposing) return;
    event.preventDefault();
    if (last >= 0) action();
  }

  private go(index: number): void {
    const match = this.matches[index];
    if (!match) return;
    this.dialog.close();
    this.state.set(match.change);
    // What had the focus may be hidden now.
    if (!(document.activeElement as HTMLElement | null)?.offsetParent) this.button.focus();
  }
}
