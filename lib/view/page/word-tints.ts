import { nanColour } from './colour';
import { element } from './dom';
import { resize } from './matrix-cells';
import { isDark } from './theme';

/** How a word is marked: on which colour it stands, in which it is written there, and whether it has a frame. */
export interface WordMark {
  tint: string;
  ink: string;
  framed: boolean;
  nan: boolean;
}

/** Pixels above and below what is in sight that are drawn too, so that scrolling shows no bare words. */
const BEYOND = 240;
/** Pixels of a word above and below its colour, so that lines stay apart. */
const INSET = 3;

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/**
 * The colours of the words of a running text, on a canvas over them, where tinted words are written again: what is pointed
 * at changes at every move, and words that change themselves would be laid out and painted anew. (Behind the words it
 * would be as slow: whatever lies over a canvas is put together again in each frame.)
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
    const scrolling = this.text.closest('#text')?.getBoundingClientRect();
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
    const style = getComputedStyle(this.text);
    context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    context.textAlign = 'center';
    const { fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = context.measureText('x');
    for (let i = firstBelow(boxes, top); i < boxes.length; i++) {
      const { left, top: y, width, height: high } = boxes[i] as Box;
      if (y > top + height) break;
      const { tint, ink, framed, nan } = markOf(i);
      if (tint) {
        // A word of several lines shows through.
        const lines = Math.round(high / (2 * (ascent + descent)));
        context.globalAlpha = lines > 1 ? 0.4 : 1;
        context.fillStyle = tint;
        context.beginPath();
        context.roundRect(left, y + INSET, width, high - 2 * INSET, 3);
        context.fill();
        context.globalAlpha = 1;
        context.fillStyle = ink;
        if (lines <= 1)
          context.fillText(
            this.words[i]?.textContent ?? '',
            left + width / 2,
            Math.round(y + (high - ascent - descent) / 2 + ascent),
          );
      }
      if (nan) {
        context.fillStyle = nanColour(isDark());
        context.fillRect(left, y + high - INSET - 3, width, 3);
      }
      if (!framed) continue;
      context.strokeStyle = frame;
      context.lineWidth = 2;
      context.beginPath();
      context.roundRect(left, y + INSET, width, high - 2 * INSET, 3);
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
