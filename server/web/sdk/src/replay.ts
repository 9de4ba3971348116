import { Backoff } from './backoff.ts';
import type { Clock } from './link.ts';
import { readPlaced, type Placed } from './protocol.ts';
import { RecentSet } from './recent.ts';

/** The part of a `Response` that the page uses; tests bring their own. */
export interface Answer {
  ok: boolean;
  status: number;
  text(): Promise<string>;
}

export interface ReplayOptions {
  room: string;
  token?: string | (() => string | undefined) | undefined;
  fetch: (path: string, headers: Record<string, string>) => Promise<Answer>;
  clock: Clock;
  random: () => number;
  /** Where the viewer is in the video, in milliseconds. */
  position: () => number;
  /** The video is live: its newest segment grows and is read again and again. */
  live: boolean;
  segmentMs: number;
  /** Each event as its moment passes, once until the viewer seeks. */
  onEvent: (event: Placed['event']) => void;
  /** Nothing can be fetched just now; without words: it can again. */
  onTrouble: (words: string | undefined) => void;
}

const LOOK_MS = 250;
/** The next segment is fetched so long before it begins. */
const AHEAD_MS = 3_000;
/** How soon a segment is read again: what is said to a live video comes late, and to a replay now and then. */
const LIVE_AGAIN_MS = 2_000;
const AGAIN_MS = 30_000;
/** What arrives so long after its moment is still shown. */
const LATE_MS = 10_000;
/** A position that moves by this much more than the time that passed was moved by the viewer. */
const SEEK_MS = 1_500;
const KEPT_SEGMENTS = 8;
const REMEMBERED_IDS = 4_000;

interface Segment {
  events: Placed[];
  loading: boolean;
  /** When it is read (again), if the viewer is still there. */
  due: number;
  backoff: Backoff;
}

/** Fetches what was said around the viewer's position, and shows each event when its moment comes. */
export class Replay {
  readonly #segments = new Map<number, Segment>();
  #shown = new RecentSet(REMEMBERED_IDS);
  /** Where the viewer last sought to: what was said before is not shown. */
  #from: number;
  #last: number;
  #lookedAt: number;
  #cancel: () => void = () => undefined;
  #stopped = false;

  constructor(private readonly options: ReplayOptions) {
    this.#from = this.#last = options.position();
    this.#lookedAt = options.clock.now();
  }

  start(): void {
    // A live room tells all its viewers to fetch in one moment; they must not all come in one.
    const wait = this.options.live ? this.options.random() * LIVE_AGAIN_MS : 0;
    if (wait > 0) this.#cancel = this.options.clock.after(wait, () => this.#look());
    else this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** The viewer's own words are on the screen already. */
  showed(id: string): void {
    this.#shown.add(id);
  }

  #look(): void {
    const { clock, position, segmentMs } = this.options;
    const [now, at] = [clock.now(), Math.max(0, position())];
    if (at < this.#last || at - this.#last > now - this.#lookedAt + SEEK_MS) {
      this.#from = at;
      this.#shown = new RecentSet(REMEMBERED_IDS);
    }
    this.#last = at;
    this.#lookedAt = now;
    const current = Math.floor(at / segmentMs);
    this.#want(current, now);
    this.#want(Math.floor((at + AHEAD_MS) / segmentMs), now);
    // What was said at the end of the last segment may have come late.
    if (this.options.live && current > 0 && at % segmentMs < LATE_MS / 2) this.#want(current - 1, now);
    this.#show(at);
    this.#cancel = clock.after(LOOK_MS, () => this.#look());
  }

  #show(at: number): void {
    const after = Math.max(this.#from, at - LATE_MS);
    const due = [...this.#segments.values()].flatMap((segment) => segment.events)
      .filter((placed) => placed.at >= after && placed.at <= at)
      .sort((a, b) => a.at - b.at);
    for (const placed of due) {
      if (this.#shown.add(placed.event.id)) this.options.onEvent(placed.event);
    }
  }

  #want(number: number, now: number): void {
    const known = this.#segments.get(number);
    if (known && (known.loading || known.due > now)) return;
    const segment = known ?? { events: [], loading: false, due: 0, backoff: new Backoff(this.options.random) };
    // The last wanted is the last forgotten.
    this.#segments.delete(number);
    this.#segments.set(number, segment);
    const [oldest] = this.#segments.keys();
    if (oldest !== undefined && this.#segments.size > KEPT_SEGMENTS) this.#segments.delete(oldest);
    segment.loading = true;
    void this.#load(number, segment);
  }

  async #load(number: number, segment: Segment): Promise<void> {
    const { room, token: given, fetch, segmentMs, clock, live, onTrouble } = this.options;
    const token = typeof given === 'function' ? given() : given;
    const from = number * segmentMs;
    let trouble: string | undefined;
    try {
      const path = `/rooms/${room}/danmu?from=${from}&to=${from + segmentMs}`;
      const answer = await fetch(path, token ? { authorization: `Bearer ${token}` } : {});
      if (answer.ok) segment.events = readPlaced(await answer.text());
      else trouble = `what was said here cannot be fetched (${answer.status})`;
    } catch {
      trouble = 'what was said here cannot be fetched just now';
    }
    if (this.#stopped) return;
    segment.loading = false;
    if (trouble === undefined) {
      segment.backoff.reset();
      segment.due = clock.now() + (live ? LIVE_AGAIN_MS : AGAIN_MS) * (0.75 + this.options.random() / 2);
    } else {
      segment.due = clock.now() + segment.backoff.next();
    }
    onTrouble(trouble);
  }
}
