import { element } from './dom';
import { resize } from './matrix-cells';

/** How a word is marked: the colour behind it, and the frame around it. */
export interface WordMark {
  tint: string;
  framed: boolean;
}

/** Pixels above and below what is in sight that are drawn too, so that scrolling shows no bare words. */
const BEYOND = 240;

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/**
 * The colours behind the words of a running text, on a canvas of their own: what is pointed at changes at every move, and
 * words whose backgrounds change would be laid out and painted again.
 */
export class WordTints {
  private readonly canvas = element('canvas', 'tints');
  private boxes: Box[] | undefined;

  /** @param onResize The words may have gone to other places. */
  constructor(
    private readonly text: HTMLElement,
    private readonly words: readonly HTMLElement[],
    onResize: () => void,
  ) {
    this.canvas.setAttribute('aria-hidden', 'true');
    text.prepend(this.canvas);
    new ResizeObserver(() => {
      this.boxes = undefined;
      onResize();
    }).observe(text);
  }

  /** Draws the words that are in sight. */
  draw(markOf: (word: number) => WordMark): void {
    const bounds = this.text.getBoundingClientRect();
    if (!bounds.width) return;
    const boxes = (this.boxes ??= this.measure(bounds));
    const scrolling = this.text.closest('.side')?.getBoundingClientRect();
    const top = Math.max(0, Math.max(0, scrolling?.top ?? 0) - BEYOND - bounds.top);
    const end = Math.min(window.innerHeight, scrolling?.bottom ?? window.innerHeight) + BEYOND - bounds.top;
    const height = Math.min(end, bounds.height) - top;
    const context = this.canvas.getContext('2d');
    if (!context || !(height > 0)) return;
    const frame = getComputedStyle(this.canvas).color;
    resize(this.canvas, bounds.width, height);
    this.canvas.style.top = `${top}px`;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, -top * devicePixelRatio);
    context.clearRect(0, top, bounds.width, height);
    for (let i = firstBelow(boxes, top); i < boxes.length; i++) {
      const { left, top: y, width, height: high } = boxes[i] as Box;
      if (y > top + height) break;
      const { tint, framed } = markOf(i);
      if (!tint && !framed) continue;
      context.beginPath();
      context.roundRect(left, y, width, high, 3);
      if (tint) {
        context.fillStyle = tint;
        context.fill();
      }
      if (!framed) continue;
      context.strokeStyle = frame;
      context.lineWidth = 2;
      context.stroke();
    }
  }

  private measure(bounds: DOMRect): Box[] {
    return this.words.map((word) => {
      const { left, top, width, height } = word.getBoundingClientRect();
      return { left: left - bounds.left, top: top - bounds.top, width, height };
    });
  }
}

/** The first word that reaches below a height; words follow each other down the text. */
function firstBelow(boxes: readonly Box[], height: number): number {
  let [from, to] = [0, boxes.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    const { top, height: high } = boxes[middle] as Box;
    if (top + high >= height) to = middle;
    else from = middle + 1;
  }
  return from;
}
