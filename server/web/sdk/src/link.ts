import { FrameReader, type Inflate } from './frames.ts';
import type { Op, RoomEvent } from './protocol.ts';

/** The part of `WebSocket` that the page uses; tests bring their own. */
export interface Socket {
  binaryType: string;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface Clock {
  /** Milliseconds; only differences count. */
  now(): number;
  /** Runs `step` once after so many milliseconds; answers how to call it off. */
  after(ms: number, step: () => void): () => void;
}

export interface LinkEvents {
  events(link: Link, events: RoomEvent[]): void;
  /** Told exactly once, after every frame that came before it. */
  closed(link: Link, code: number, reason: string): void;
}

/** The code a browser gives a connection that ended without a close frame (RFC 6455 §7.1.5). */
const ABNORMAL = 1006;
/** From opening to `joined`: a handshake that hangs is a failed one. */
const JOIN_DEADLINE_MS = 15_000;
/** The server pings every 25 s where the page cannot see it; a minute without a frame is only suspicious. */
const SILENCE_MS = 60_000;
const PONG_DEADLINE_MS = 10_000;
/** How long a replaced link stays open for answers that are still on their way. */
const LAST_ANSWERS_MS = 1_000;

/** One WebSocket to a room, from the handshake to its end. */
export class Link {
  joined = false;
  /** The priority lane's epoch as this link joined it; offsets from here count in it only. */
  epoch = '';
  /** How far the lane was shown when this link joined: what it brings up to here is told for the second time. */
  already = 0;
  readonly #reader: FrameReader;
  readonly #unanswered = new Set<string>();
  #heardAt: number;
  #cancelTimer: () => void;
  #ended = false;

  constructor(
    private readonly socket: Socket,
    private readonly clock: Clock,
    inflate: Inflate,
    private readonly listener: LinkEvents,
  ) {
    this.#heardAt = clock.now();
    this.#reader = new FrameReader(
      inflate,
      (events) => this.#take(events),
      () => this.drop('a frame could not be read'),
    );
    this.#cancelTimer = clock.after(JOIN_DEADLINE_MS, () => this.drop('the server did not answer in time'));
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => {
      this.#heardAt = clock.now();
      this.#reader.frame(event.data);
    };
    socket.onclose = (event) => this.#end(event.code, event.reason);
  }

  /** Sends what a viewer says; false when this link is over. */
  send(op: Op): boolean {
    if (this.#ended || !this.joined) return false;
    if (op.op === 'say') this.#unanswered.add(op.ref);
    this.socket.send(JSON.stringify(op));
    return true;
  }

  /** Ends this link on the page's wish; with answers under way, a moment later. */
  retire(): void {
    this.#cancelTimer();
    if (this.#unanswered.size > 0) {
      this.#cancelTimer = this.clock.after(LAST_ANSWERS_MS, () => this.socket.close(1000));
    } else {
      this.socket.close(1000);
    }
  }

  /** Ends this link without waiting for the other side, which may be gone. */
  drop(reason: string): void {
    this.socket.onmessage = null;
    this.socket.onclose = null;
    this.socket.close();
    this.#end(ABNORMAL, reason);
  }

  #take(events: RoomEvent[]): void {
    for (const event of events) {
      if (event.ev === 'joined' && !this.joined) {
        this.joined = true;
        this.epoch = event.epoch;
        this.#cancelTimer();
        this.#watchSilence(SILENCE_MS);
      }
      if ((event.ev === 'ack' || event.ev === 'refused') && event.ref) this.#unanswered.delete(event.ref);
    }
    this.listener.events(this, events);
  }

  #watchSilence(ms: number): void {
    this.#cancelTimer = this.clock.after(ms, () => {
      const silent = this.clock.now() - this.#heardAt;
      if (silent < SILENCE_MS) {
        this.#watchSilence(SILENCE_MS - silent);
        return;
      }
      const askedAt = this.clock.now();
      this.send({ op: 'ping' });
      this.#cancelTimer = this.clock.after(PONG_DEADLINE_MS, () => {
        if (this.#heardAt < askedAt) this.drop('the connection went silent');
        else this.#watchSilence(SILENCE_MS);
      });
    });
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancelTimer();
    this.#reader.then(() => this.listener.closed(this, code, reason));
  }
}
