/** A set that forgets its oldest members: enough to drop duplicates, never growing. */
export class RecentSet {
  readonly #members = new Set<string>();

  constructor(private readonly limit: number) {}

  has(member: string): boolean {
    return this.#members.has(member);
  }

  /** Answers whether the member is new. */
  add(member: string): boolean {
    if (this.#members.has(member)) return false;
    this.#members.add(member);
    if (this.#members.size > this.limit) {
      const [oldest] = this.#members;
      if (oldest !== undefined) this.#members.delete(oldest);
    }
    return true;
  }
}
