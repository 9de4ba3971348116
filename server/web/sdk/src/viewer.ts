import { RoomConnection, type ConnectionState } from './connection.ts';
import { Feed } from './feed.ts';
import { canInflate, inflateRaw } from './frames.ts';
import type { Clock, Socket } from './link.ts';
import type { Action, Chat, Joined, RoomEvent, Say } from './protocol.ts';
import type { Answer } from './replay.ts';

export interface ViewerOptions {
  /** The servers' address, for example `https://danmu.example`. */
  url: string;
  room: string;
  /** A JWT; as a function it is asked before each connection, and an expired one is no end. */
  token?: string | (() => string | undefined) | undefined;
  /** `deflate`, the default where the browser can read it, saves half of a busy room's bytes and more. */
  format?: 'json' | 'deflate';
  /** From where on the priority lane, as `position` told an earlier viewer. */
  since?: string;
  /** Which part of a divided room, as `sub` told an earlier viewer. */
  sub?: number;
  /** Where the viewer is in the video, in milliseconds: for replays. Absent: at the beginning. */
  position?: () => number;
  /** For programs and tests without a browser's. */
  open?: (url: string, protocols: string[]) => Socket;
  fetch?: (url: string, headers: Record<string, string>) => Promise<Answer>;
  clock?: Clock;
  random?: () => number;
}

/** What a viewer tells. Every event of the protocol has a name of its own as well (`chat`, `gift`, …). */
export interface ViewerEvents {
  /** The room is joined: the first time, after a cut, or by a move. `lost`: gifts or notices may be missing. */
  joined: [joined: Omit<Joined, 'history'>, lost: boolean];
  /** What was said before; after the events that came along with it. */
  history: [history: Chat[]];
  /** Every event of the room, fetched ones too; each message once, in order. */
  event: [event: RoomEvent];
  state: [state: ConnectionState];
  /** A replay begins, or is over: whether there is a timeline. */
  replay: [replay: boolean];
  /** What is said cannot be fetched just now; without words: it can again. */
  trouble: [words: string | undefined];
}

type Told = ViewerEvents & { [E in Exclude<RoomEvent, { ev: 'joined' | 'move' | 'pong' }> as E['ev']]: [event: E] };
type Listener = (...told: unknown[]) => void;

/** A viewer of one room: comes back after a cut, moves when asked to, and fetches where chat is fetched. */
export class DanmuViewer {
  readonly #connection: RoomConnection;
  readonly #feed: Feed;
  readonly #listeners = new Map<string, Set<Listener>>();
  #refs = 0;

  constructor(options: ViewerOptions) {
    const { room, token, format, since, sub, clock = realClock, random = Math.random } = options;
    const origin = new URL(options.url).origin;
    const get = options.fetch ?? ((url: string, headers: Record<string, string>) => fetch(url, { headers }));
    const { position = () => 0 } = options;
    this.#feed = new Feed({
      room, token, clock, random, position,
      fetch: (path, headers) => get(origin + path, headers),
      onEvent: (event) => this.#event(event),
      onReplay: (replay) => this.#tell('replay', replay),
      onTrouble: (words) => this.#tell('trouble', words),
    });
    this.#connection = new RoomConnection({
      room, origin, token, since, sub, clock, random,
      open: options.open ?? ((url, protocols) => new WebSocket(url, protocols) as Socket),
      inflate: format !== 'json' && canInflate() ? inflateRaw : undefined,
      onJoined: (joined, lost) => {
        this.#tell('joined', joined, lost);
        this.#feed.set(joined.onDemand);
      },
      onHistory: (history) => this.#tell('history', history),
      onEvent: (event) => this.#event(event),
      onState: (state) => this.#tell('state', state),
    });
  }

  /** Connects; listen first. */
  start(): this {
    this.#connection.start();
    return this;
  }

  /** Leaves for good. */
  stop(): void {
    this.#feed.stop();
    this.#connection.stop();
  }

  /** Listens; answers how to stop listening. */
  on<K extends keyof Told>(name: K, listener: (...told: Told[K]) => void): () => void {
    const all = this.#listeners.get(name) ?? new Set();
    const heard: Listener = (...told) => listener(...(told as Told[K]));
    this.#listeners.set(name, all.add(heard));
    return () => { all.delete(heard); };
  }

  /**
   * Says something; answers the `ref` that `ack` or `refused` brings back, or nothing when there is no
   * connection just now. In a replay it is said at the viewer's position.
   */
  say(said: string | Omit<Say, 'op' | 'ref'>): string | undefined {
    const ref = String(++this.#refs);
    const at = this.#feed.at();
    const say = typeof said === 'string' ? { text: said } : said;
    return this.#connection.say({ ref, ...(at === undefined ? {} : { at }), ...say }) ? ref : undefined;
  }

  /** Keeps order, as a moderator; answers the `ref` of `done` or `refused`, or nothing without a connection. */
  moderate(action: Action): string | undefined {
    const ref = `m${++this.#refs}`;
    return this.#connection.moderate(ref, action) ? ref : undefined;
  }

  /** Where the viewer is in what is fetched, in milliseconds; none where chat comes by itself. */
  at(): number | undefined {
    return this.#feed.at();
  }

  /** A message of the viewer's own is on the screen already: it is not told again when it is fetched. */
  showed(id: string): void {
    this.#feed.showed(id);
  }

  /** How far the priority lane was seen, for `since`. */
  get position(): string | undefined {
    return this.#connection.position;
  }

  /** The part of a divided room that this viewer is in. */
  get sub(): number | undefined {
    return this.#connection.sub;
  }

  #event(event: RoomEvent): void {
    this.#tell('event', event);
    this.#emit(event.ev, event);
    if (event.ev === 'mode') this.#feed.set(event.onDemand);
  }

  #tell<K extends keyof ViewerEvents>(name: K, ...told: ViewerEvents[K]): void {
    this.#emit(name, ...told);
  }

  #emit(name: string, ...told: unknown[]): void {
    for (const listener of this.#listeners.get(name) ?? []) listener(...told);
  }
}

const realClock: Clock = {
  now: () => performance.now(),
  after: (ms, step) => {
    const timer = setTimeout(step, ms);
    return () => clearTimeout(timer);
  },
};
