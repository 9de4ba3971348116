import type { ConnectionOptions, ConnectionState } from '../src/connection.ts';
import { RoomConnection } from '../src/connection.ts';
import type { Clock, Socket } from '../src/link.ts';
import type { Chat, Joined, RoomEvent } from '../src/protocol.ts';

export class FakeClock implements Clock {
  #now = 0;
  #timers: { at: number; step: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, step: () => void): () => void {
    const timer = { at: this.#now + ms, step };
    this.#timers.push(timer);
    return () => { this.#timers = this.#timers.filter((other) => other !== timer); };
  }

  /** Lets so many milliseconds pass, one timer after the other, with everything they set going. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const [next] = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.at;
      next.step();
    }
    this.#now = end;
  }
}

export const joined = (fields: object = {}) => (
  { ev: 'joined', epoch: 'E', offset: 0, recovered: true, viewers: 1, anonymous: 'speak', maxLength: 100, ...fields }
);

export class FakeSocket implements Socket {
  binaryType = 'blob';
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  readonly sent: unknown[] = [];
  /** The code the page closed with; `undefined` while it has not, `null` without a code. */
  closedWith: number | null | undefined;

  constructor(readonly url: string, readonly protocols: string[]) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    this.closedWith = code ?? null;
  }

  async receive(...events: object[]): Promise<void> {
    this.onmessage?.({ data: JSON.stringify(events) });
    await settle();
  }

  async join(fields: object = {}): Promise<void> {
    await this.receive(joined(fields));
  }

  async end(code: number, reason = ''): Promise<void> {
    this.onclose?.({ code, reason });
    await settle();
  }
}

/** Lets every promise under way finish. */
export async function settle(): Promise<void> {
  await new Promise((done) => setImmediate(done));
}

/** A connection to room `final` with all that it opened and told. */
export function connect(options: Partial<ConnectionOptions> = {}) {
  const clock = new FakeClock();
  const sockets: FakeSocket[] = [];
  const events: RoomEvent[] = [];
  const joins: { joined: Omit<Joined, 'history'>; lost: boolean }[] = [];
  /** Events and lines of the history, in the order in which they are shown. */
  const shown: (RoomEvent | Chat)[] = [];
  const states: ConnectionState[] = [];
  const connection = new RoomConnection({
    room: 'final',
    origin: 'https://danmu.example',
    open: (url, protocols) => {
      const socket = new FakeSocket(url, protocols);
      sockets.push(socket);
      return socket;
    },
    clock,
    random: () => 0.5,
    onJoined: (joined, lost) => joins.push({ joined, lost }),
    onHistory: (history) => shown.push(...history),
    onEvent: (event) => {
      events.push(event);
      shown.push(event);
    },
    onState: (state) => states.push(state),
    ...options,
  });
  connection.start();
  const socket = (index: number): FakeSocket => {
    const found = sockets[index];
    if (!found) throw new Error(`no socket ${index} was opened`);
    return found;
  };
  return { connection, clock, sockets, socket, events, shown, joins, states, lastState: () => states.at(-1) };
}
