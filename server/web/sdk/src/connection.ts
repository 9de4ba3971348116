import { Backoff } from './backoff.ts';
import { afterClose, closeWords, TOKEN_EXPIRED } from './close-codes.ts';
import type { Inflate } from './frames.ts';
import { Link, type Clock, type Socket } from './link.ts';
import type { Action, Chat, Joined, Move, RoomEvent, Say } from './protocol.ts';
import { RecentSet } from './recent.ts';
import { PROTOCOL_DEFLATE, PROTOCOL_JSON, PROTOCOL_TOKEN_PREFIX } from './table.ts';

export type ConnectionState =
  | { kind: 'connecting' }
  | { kind: 'open' }
  /** Lost; the next try is in so many milliseconds. */
  | { kind: 'waiting'; words: string; retryMs: number }
  /** Over. `newToken`: another token, or none, may help. */
  | { kind: 'stopped'; words: string; newToken: boolean };

export interface ConnectionOptions {
  room: string;
  /** The servers' address, for example `https://danmu.example`. */
  origin: string;
  /** Asked before each connection when it is a function: then an expired one is no end. */
  token?: string | (() => string | undefined) | undefined;
  /** From where on the priority lane, as `position` told it. */
  since?: string | undefined;
  /** Which part of a divided room, as `joined` told it. */
  sub?: number | undefined;
  /** `new WebSocket(url, protocols)` */
  open: (url: string, protocols: string[]) => Socket;
  clock: Clock;
  random: () => number;
  /** Absent where the browser cannot inflate: then only JSON is offered. */
  inflate?: Inflate | undefined;
  /** Told once per link that joined, before its events. `lost`: gifts or notices may be missing. */
  onJoined: (joined: Omit<Joined, 'history'>, lost: boolean) => void;
  /**
   * What was said before a link joined. Told after the events of the same frame: the history is as they
   * left it, and a removal among them must not take away lines that were said after it.
   */
  onHistory: (history: Chat[]) => void;
  /** Everything else worth showing, each message once, in order. */
  onEvent: (event: RoomEvent) => void;
  onState: (state: ConnectionState) => void;
}

/** Ids remembered to drop duplicates: minutes of a busy room, and about 100 kB. */
const REMEMBERED_IDS = 2_000;
/** A connection that held this long was a good one: the next trouble starts with short waits again. */
const GOOD_AFTER_MS = 10_000;

/**
 * A viewer's connection to a room over as many WebSockets as it takes: comes back after a cut,
 * moves when the server asks (new link first, then the old one closes), knows its position on the
 * priority lane, and lets every message through once.
 */
export class RoomConnection {
  #current: Link | undefined;
  /** The link to move to; not joined yet. */
  #next: Link | undefined;
  #joinedAt = 0;
  #epoch = '';
  #offset = 0;
  #sub: number | undefined;
  /** The last place on the lane that was shown: a gift may stand for several before it. */
  #shown = 0;
  #stopped = false;
  #cancelRetry: () => void = () => undefined;
  readonly #seen = new RecentSet(REMEMBERED_IDS);
  readonly #backoff: Backoff;
  readonly #moveBackoff: Backoff;

  constructor(private readonly options: ConnectionOptions) {
    this.#backoff = new Backoff(options.random);
    this.#moveBackoff = new Backoff(options.random);
    const [, epoch, offset] = /^([0-9A-Za-z]{1,32})\.(\d{1,15})$/.exec(options.since ?? '') ?? [];
    if (epoch !== undefined) [this.#epoch, this.#offset] = [epoch, Number(offset)];
    this.#sub = options.sub;
  }

  /** How far the priority lane was seen, as `since` takes it. */
  get position(): string | undefined {
    return this.#epoch ? `${this.#epoch}.${this.#offset}` : undefined;
  }

  /** The part of a divided room that this viewer is in. */
  get sub(): number | undefined {
    return this.#sub;
  }

  start(): void {
    this.options.onState({ kind: 'connecting' });
    this.#current = this.#openLink(this.#address());
  }

  /** Leaves for good. */
  stop(): void {
    this.#stopped = true;
    this.#cancelRetry();
    this.#current?.retire();
    this.#next?.retire();
  }

  /** Sends a message; false when there is no joined link just now. */
  say(say: Omit<Say, 'op'>): boolean {
    return this.#current?.send({ op: 'say', ...say }) ?? false;
  }

  /** Asks for something as a moderator; false when there is no joined link just now. */
  moderate(ref: string, action: Action): boolean {
    return this.#current?.send({ op: 'moderate', ref, ...action }) ?? false;
  }

  #address(moveTo?: string): string {
    const own = `/rooms/${this.options.room}/ws`;
    let url = new URL(own, this.options.origin);
    try {
      if (moveTo) url = new URL(moveTo, url);
    } catch {
      // an address that cannot be read counts as none
    }
    // Never from TLS to plain: the token travels in the handshake.
    const tls = this.options.origin.startsWith('https:') || url.protocol === 'wss:' || url.protocol === 'https:';
    url.protocol = tls ? 'wss:' : 'ws:';
    url.hash = '';
    url.searchParams.set('room', this.options.room);
    if (this.position !== undefined) url.searchParams.set('since', this.position);
    if (this.#sub !== undefined) url.searchParams.set('sub', String(this.#sub));
    return url.href;
  }

  #openLink(address: string): Link {
    const { token: given, inflate, open, clock } = this.options;
    const token = typeof given === 'function' ? given() : given;
    const protocols = inflate ? [PROTOCOL_DEFLATE, PROTOCOL_JSON] : [PROTOCOL_JSON];
    if (token) protocols.push(PROTOCOL_TOKEN_PREFIX + token);
    return new Link(open(address, protocols), clock, inflate ?? (() => Promise.reject(new Error('not offered'))), {
      events: (link, events) => this.#take(link, events),
      closed: (link, code, reason) => this.#closed(link, code, reason),
    });
  }

  #take(link: Link, events: RoomEvent[]): void {
    if (this.#stopped) return;
    const history: Chat[] = [];
    for (const event of events) {
      if (event.ev === 'joined') {
        history.push(...this.#join(link, event));
      } else if (event.ev === 'move') {
        if (link === this.#current && !this.#next) this.#move(event);
      } else if (event.ev !== 'pong' && this.#isNew(link, event)) {
        if (event.ev === 'gap' && event.epoch !== undefined) this.#begin(link, event.epoch);
        if ('offset' in event && link.epoch === this.#epoch) {
          this.#offset = Math.max(this.#offset, event.offset);
          this.#shown = Math.max(this.#shown, event.offset);
        }
        this.options.onEvent(event);
      }
    }
    if (history.length > 0) this.options.onHistory(history);
  }

  /** The priority lane has begun anew: what was seen of the old epoch is no position any more. */
  #begin(link: Link, epoch: string): void {
    if (link === this.#current) {
      this.#epoch = epoch;
      this.#offset = 0;
      this.#shown = 0;
    }
    link.epoch = epoch;
    link.already = 0;
  }

  #isNew(link: Link, event: RoomEvent): boolean {
    // An offset of 0 is that of an event with no place on the priority lane.
    const isReplayed = 'offset' in event && event.offset > 0 && event.offset <= Math.max(link.already, this.#shown);
    if (isReplayed && link.epoch === this.#epoch) return false;
    const isMessage = event.ev === 'chat' || event.ev === 'gift' || event.ev === 'notice'
      || event.ev === 'super' || event.ev === 'custom';
    return !isMessage || this.#seen.add(event.id);
  }

  /** Answers what of the history has not been shown yet. */
  #join(link: Link, joined: Joined): Chat[] {
    const lost = this.#epoch !== '' && !joined.recovered;
    link.already = joined.epoch === this.#epoch ? this.#offset : 0;
    if (joined.epoch !== this.#epoch) this.#shown = 0;
    this.#offset = joined.epoch === this.#epoch ? Math.max(this.#offset, joined.offset) : joined.offset;
    this.#epoch = joined.epoch;
    this.#sub = joined.sub;
    this.#joinedAt = this.options.clock.now();
    if (link === this.#next) {
      const old = this.#current;
      this.#current = link;
      this.#next = undefined;
      this.#moveBackoff.reset();
      old?.retire();
    }
    this.options.onState({ kind: 'open' });
    this.options.onJoined(joined, lost);
    return joined.history.filter((chat) => this.#seen.add(chat.id));
  }

  #move(move: Move): void {
    this.#cancelRetry();
    this.#next = this.#openLink(this.#address(move.url));
  }

  #closed(link: Link, code: number, reason: string): void {
    if (this.#stopped) return;
    if (link === this.#next) {
      this.#next = undefined;
      // The old link still works: stay on it and try again, at the usual address, until it closes; and say there that
      // we were moved, or we would be sent to where we could not get in once more.
      const again: Move = { ev: 'move', url: '?moved=1', withinMs: 0 };
      this.#cancelRetry = this.options.clock.after(this.#moveBackoff.next(), () => this.#move(again));
      return;
    }
    if (link !== this.#current) return;
    this.#cancelRetry();
    if (this.#next) {
      // The new link is on its way already: it is the connection now.
      this.#current = this.#next;
      this.#next = undefined;
      this.options.onState({ kind: 'connecting' });
      return;
    }
    this.#current = undefined;
    this.#comeBack(link, code, reason);
  }

  #comeBack(link: Link, code: number, reason: string): void {
    const asked = afterClose(code);
    // A function has a fresh one the next time; what is not valid stays so.
    const next = code === TOKEN_EXPIRED && typeof this.options.token === 'function' ? 'retry' : asked;
    const words = closeWords(code, reason);
    if (next !== 'retry') {
      this.#stopped = true;
      this.options.onState({ kind: 'stopped', words, newToken: next === 'new-token' });
      return;
    }
    if (link.joined && this.options.clock.now() - this.#joinedAt >= GOOD_AFTER_MS) this.#backoff.reset();
    const retryMs = this.#backoff.next();
    this.options.onState({ kind: 'waiting', words, retryMs });
    this.#cancelRetry = this.options.clock.after(retryMs, () => this.start());
  }
}
