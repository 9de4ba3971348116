import type { Clock } from './link.ts';
import type { OnDemand, Placed } from './protocol.ts';
import { Replay, type ReplayOptions } from './replay.ts';

/**
 * How far behind the live position the page shows what it fetches: until it is recorded (about a second),
 * out of the caches (one) and asked for again (two).
 */
const BEHIND_MS = 4_000;

export interface FeedOptions extends Pick<ReplayOptions, 'room' | 'token' | 'fetch' | 'random' | 'onTrouble'> {
  clock: Clock;
  /** Where the viewer is in a replay. */
  position: () => number;
  onEvent: (event: Placed['event']) => void;
  /** A replay begins (`true`) or is over: the timeline is there or not. */
  onReplay: (replay: boolean) => void;
}

/** Whether what is said comes by itself or has to be fetched; turns from one to the other when the room does. */
export class Feed {
  #onDemand: OnDemand | undefined;
  #replay: Replay | undefined;
  #toldAt = 0;

  constructor(private readonly options: FeedOptions) {}

  /** What the room says now. Told again (after a reconnect) it goes on where it is. */
  set(onDemand: OnDemand | undefined): void {
    const { clock, onReplay } = this.options;
    const before = this.#onDemand;
    this.#onDemand = onDemand;
    this.#toldAt = clock.now();
    const same = before?.segmentMs === onDemand?.segmentMs && (before?.atMs === undefined) === (onDemand?.atMs === undefined);
    if (same && (before === undefined) === (onDemand === undefined)) return;
    this.stop();
    if (onDemand) {
      const { room, token, fetch, random, onEvent, onTrouble } = this.options;
      const [live, segmentMs] = [onDemand.atMs !== undefined, onDemand.segmentMs];
      const position = (): number => this.#position();
      this.#replay = new Replay({ room, token, fetch, random, onEvent, onTrouble, clock, live, segmentMs, position });
      this.#replay.start();
    }
    onReplay(onDemand !== undefined && onDemand.atMs === undefined);
  }

  stop(): void {
    this.#replay?.stop();
    this.#replay = undefined;
  }

  /** The position that goes along with what the viewer says; none in a live room. */
  at(): number | undefined {
    return this.#replay ? this.#position() : undefined;
  }

  /** What the viewer said was kept, and is on the screen: it comes by fetching as well. */
  showed(id: string): void {
    this.#replay?.showed(id);
  }

  #position(): number {
    const atMs = this.#onDemand?.atMs;
    if (atMs === undefined) return this.options.position();
    return Math.max(0, Math.floor(atMs + this.options.clock.now() - this.#toldAt - BEHIND_MS));
  }
}
