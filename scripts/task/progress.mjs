const SHOW_AFTER_MS = 2000;
const FRAME_MS = 120;
const LINE_EVERY_MS = 30_000;
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/**
 * Does a step of the set-up. One that takes longer than two seconds is announced, with the elapsed time: as a spinner on
 * a terminal, elsewhere as a line now and then. One that doesn't is not mentioned.
 *
 * @param work receives a function that adds a detail: `update('12 of 40')`
 */
export async function step(title, work) {
  const start = Date.now();
  const spinning = process.stderr.isTTY;
  let detail = '';
  let shown = false;
  let frame = 0;
  const elapsed = () => {
    const seconds = Math.round((Date.now() - start) / 1000);
    return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  };
  const show = () => {
    const text = `${title} … ${detail ? `${detail}, ` : ''}${elapsed()}`;
    if (spinning) {
      frame = (frame + 1) % FRAMES.length;
      const width = (process.stderr.columns ?? 80) - 3;
      process.stderr.write(`\r\x1b[2K${FRAMES[frame]} ${text.slice(0, width)}`);
    } else {
      process.stderr.write(shown ? `  ${text}\n` : `${title} …\n`);
    }
    shown = true;
  };
  let interval;
  const timer = setTimeout(() => {
    show();
    interval = setInterval(show, spinning ? FRAME_MS : LINE_EVERY_MS);
  }, SHOW_AFTER_MS);
  const end = (mark) => {
    clearTimeout(timer);
    clearInterval(interval);
    if (shown) process.stderr.write(`${spinning ? '\r\x1b[2K' : ''}${mark} ${title} (${elapsed()})\n`);
  };
  try {
    const result = await work((text) => {
      detail = text;
    });
    end('✓');
    return result;
  } catch (error) {
    end('✗');
    throw error;
  }
}
