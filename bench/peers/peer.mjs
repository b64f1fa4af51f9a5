// The benchmark's side of what it speaks with its peers: programs that run something when told to, and say how long it
// took. So their turns fall between those of this process. What is spoken: serve.mjs.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Why a peer can't be measured here: what it needs. */
export class Missing extends Error {}

export class Peer {
  #child;
  #lines;
  #complaints = '';

  /**
   * Starts a program and waits until it is ready. Throws `Missing` where it says that it lacks something.
   * @param env variables beside those of this process
   */
  static async start(command, args, env = {}) {
    const peer = new Peer(command, args, env);
    const { missing, ready } = await peer.#next();
    if (missing) {
      peer.end();
      throw new Missing(missing);
    }
    peer.versions = ready;
    return peer;
  }

  constructor(command, args, env) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    this.#child.on('error', (error) => {
      this.#complaints += error.message;
    });
    this.#child.stdin.on('error', () => {}); // of a peer that ended: its missing answer tells
    this.#child.stderr.on('data', (chunk) => {
      this.#complaints = (this.#complaints + chunk).slice(-4000);
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Of the process. */
  get pid() {
    return this.#child.pid;
  }

  /** Loads what a way needs, without running it. */
  load(way) {
    return this.#ask('load', way);
  }

  /** Milliseconds of `count` runs one after the other. */
  async run(way, batch, tokens, count = 1) {
    return (await this.#ask('run', way, batch, tokens, count)).ms;
  }

  /** Bytes held before, at most during, and after `count` runs. */
  memory(way, batch, tokens, count) {
    return this.#ask('memory', way, batch, tokens, count);
  }

  /** The first numbers of the output. */
  async output(way, batch, tokens) {
    return (await this.#ask('output', way, batch, tokens)).values;
  }

  end() {
    this.#child.stdin.end();
  }

  async #ask(...words) {
    this.#child.stdin.write(`${words.join('\t')}\n`);
    const { error, ...result } = await this.#next();
    if (error) throw new Error(error);
    return result;
  }

  async #next() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`the peer ended: ${this.#complaints.trim().split('\n').at(-1) || 'without a word'}`);
      // Libraries print lines of their own.
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }
}
