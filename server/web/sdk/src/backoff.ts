/** Full jitter: a random wait between zero and a cap that doubles, so that a cut crowd comes back spread out. */
export class Backoff {
  static readonly FIRST_MS = 1_000;
  static readonly LONGEST_MS = 30_000;

  #cap = Backoff.FIRST_MS;

  /** @param random a number in [0, 1), as `Math.random` gives. */
  constructor(private readonly random: () => number) {}

  /** Milliseconds until the next try. */
  next(): number {
    const wait = this.random() * this.#cap;
    this.#cap = Math.min(this.#cap * 2, Backoff.LONGEST_MS);
    return wait;
  }

  reset(): void {
    this.#cap = Backoff.FIRST_MS;
  }
}
