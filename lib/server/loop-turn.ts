/**
 * Milliseconds of one turn of the event loop that requests take together: many that come at once, as in an overload, would else be
 * worked on in a single turn, and whatever else the process does would wait for all of them.
 */
const SHARE = 4;

/** When requests began to be worked on in this turn; undefined where none has been. */
let begun: number | undefined;

function isUsedUp(): boolean {
  if (begun === undefined) {
    begun = performance.now();
    // The first immediate of the next turn, ahead of all that wait for it.
    setImmediate(() => {
      begun = undefined;
    });
  }
  return performance.now() - begun >= SHARE;
}

/**
 * Waits for a turn of the event loop that has time left for a piece of work: the parsing of a request, or some milliseconds of its
 * answer. Who comes first has it first.
 */
export function loopTurn(): Promise<void> {
  return new Promise((resolve) => {
    // What a turn's immediates lead to at once is done ahead of the next of them, and so is part of what has been used.
    const attempt = (): void => {
      if (isUsedUp()) setImmediate(attempt);
      else resolve();
    };
    setImmediate(attempt);
  });
}
