/** An element with a class and a text; what is text stays text. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  className = '',
  text = '',
): HTMLElementTagNameMap[Tag] {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** A button that is no submit button. */
export function button(className: string, text: string, data: Record<string, string> = {}): HTMLButtonElement {
  const node = element('button', className, text);
  node.type = 'button';
  Object.assign(node.dataset, data);
  return node;
}

/** The one element below `root` that a selector finds. */
export function find<Kind extends Element = HTMLElement>(root: ParentNode, selector: string): Kind {
  return root.querySelector<Kind>(selector) as Kind;
}

/** Pixels of the window from the top of an element, as the page begins, down to the line at the bottom. */
export function roomBelow(node: Element): number {
  const foot = document.querySelector('.foot');
  // A line that isn't kept in sight takes nothing.
  const taken = foot && getComputedStyle(foot).position === 'sticky' ? foot.getBoundingClientRect().height : 0;
  return window.innerHeight - taken - node.getBoundingClientRect().top - window.scrollY;
}

/** Which way an arrow key goes: rows down, columns across; undefined for other keys. */
export function arrowStep(key: string): [down: number, across: number] | undefined {
  if (key === 'ArrowUp') return [-1, 0];
  if (key === 'ArrowDown') return [1, 0];
  if (key === 'ArrowLeft') return [0, -1];
  return key === 'ArrowRight' ? [0, 1] : undefined;
}

/** Calls `work` once in the next frame, however often it is asked for. */
export function oncePerFrame(work: () => void): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** Gives a file to the reader. */
export function saveFile(blob: Blob, name: string): void {
  const link = element('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
