import { describe, expect, it } from 'vitest';
import { connect, joined, settle } from './fake-network.ts';

const chat = (id: string) => ({ ev: 'chat', id, text: id });
const gift = (id: string, offset: number) => ({ ev: 'gift', id, gift: 'rose', offset });
const clear = (offset: number) => ({ ev: 'removed', offset, ids: [], all: true });
const ids = (events: { ev: string; id?: string }[]) => events.map((event) => event.id ?? event.ev);

describe('the handshake', () => {
  it('names the room in path and query, and carries the token as a sub-protocol, never in the address', () => {
    const { socket } = connect({ token: 'aa.bb.cc', inflate: async () => '[]' });
    expect(socket(0).url).toBe('wss://danmu.example/rooms/final/ws?room=final');
    expect(socket(0).protocols).toEqual(['danmu.v1.deflate', 'danmu.v1.json', 'token.aa.bb.cc']);
  });

  it('offers JSON only where the browser cannot inflate', () => {
    expect(connect().socket(0).protocols).toEqual(['danmu.v1.json']);
  });

  it('uses plain WebSocket on a plain page', () => {
    expect(connect({ origin: 'http://127.0.0.1:8080' }).socket(0).url).toBe('ws://127.0.0.1:8080/rooms/final/ws?room=final');
  });

  it('that hangs is given up and tried again', async () => {
    const { clock, sockets, lastState } = connect();
    await clock.pass(15_000);
    expect(lastState()).toMatchObject({ kind: 'waiting', retryMs: 500 });
    await clock.pass(500);
    expect(sockets).toHaveLength(2);
  });
});

describe('coming back', () => {
  it('waits longer after each failed handshake, up to half of thirty seconds on average', async () => {
    const { clock, sockets, lastState } = connect();
    const waits: number[] = [];
    for (let failure = 0; failure < 7; failure++) {
      await sockets.at(-1)?.end(1006);
      const state = lastState();
      waits.push(state?.kind === 'waiting' ? state.retryMs : -1);
      await clock.pass(waits.at(-1) ?? 0);
    }
    expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  });

  it('starts with short waits again after a connection that held', async () => {
    const { clock, socket, sockets, lastState } = connect();
    await socket(0).end(1006);
    await clock.pass(500);
    await socket(1).join();
    await clock.pass(10_000);
    await socket(1).end(4001, 'this server is being drained: reconnect');
    expect(lastState()).toEqual({ kind: 'waiting', words: 'this server is being drained: reconnect', retryMs: 500 });
    expect(sockets).toHaveLength(2);
  });

  it('keeps waiting longer when the server takes it in and throws it out at once', async () => {
    const { clock, socket, lastState } = connect();
    await socket(0).join();
    await socket(0).end(4013);
    await clock.pass(500);
    await socket(1).join();
    await socket(1).end(4013);
    expect(lastState()).toMatchObject({ retryMs: 1_000 });
  });

  it('tells its position: the epoch and the highest offset seen', async () => {
    const { clock, socket } = connect();
    await socket(0).join({ epoch: 'E7', offset: 4 });
    await socket(0).receive(gift('G6', 6), gift('G5', 5));
    await socket(0).end(1006);
    await clock.pass(500);
    expect(new URL(socket(1).url).searchParams.get('since')).toBe('E7.6');
  });

  it('counts from the beginning when the lane begins anew under another epoch', async () => {
    const { clock, socket } = connect();
    await socket(0).join({ epoch: 'E', offset: 40 });
    await socket(0).receive({ ev: 'gap', lane: 'priority', epoch: 'F' }, gift('G1', 1));
    await socket(0).end(1006);
    await clock.pass(500);
    expect(new URL(socket(1).url).searchParams.get('since')).toBe('F.1');
  });

  it('shows the history after the removals that were missed: it is what they left', async () => {
    const { clock, socket, shown } = connect();
    await socket(0).join({ history: [chat('old')] });
    await socket(0).end(1006);
    await clock.pass(500);
    await socket(1).receive(joined({ offset: 1, history: [chat('said after it')] }), clear(1));
    expect(ids(shown)).toEqual(['old', 'removed', 'said after it']);
  });

  it('says when something was lost meanwhile, but not at the first join', async () => {
    const { clock, socket, joins } = connect();
    await socket(0).join({ recovered: false });
    await socket(0).end(1006);
    await clock.pass(500);
    await socket(1).join({ recovered: false, epoch: 'F', offset: 2 });
    await socket(1).end(1006);
    await clock.pass(1_000);
    expect(joins.map((join) => join.lost)).toEqual([false, true]);
    expect(new URL(socket(2).url).searchParams.get('since')).toBe('F.2');
  });

  it('does not happen after a code that says so, and shows the reason', async () => {
    const { clock, socket, sockets, lastState } = connect();
    await socket(0).end(4503, 'banned');
    await clock.pass(120_000);
    expect(lastState()).toEqual({ kind: 'stopped', words: 'banned', newToken: false });
    expect(sockets).toHaveLength(1);
  });

  it('waits for another token when the token has expired', async () => {
    const { socket, lastState } = connect({ token: 'a.b.c' });
    await socket(0).end(4005);
    expect(lastState()).toEqual({ kind: 'stopped', words: 'your sign-in has expired', newToken: true });
  });

  it('hands over every frame that came before the end', async () => {
    let inflated: (text: string) => void = () => undefined;
    const { socket, events, lastState } = connect({ inflate: () => new Promise((resolve) => { inflated = resolve; }) });
    await socket(0).join();
    socket(0).onmessage?.({ data: new ArrayBuffer(4) });
    await socket(0).end(4001);
    expect(lastState()).toEqual({ kind: 'open' });
    inflated(JSON.stringify([chat('late')]));
    await socket(0).receive();
    expect(ids(events)).toEqual(['late']);
    expect(lastState()).toMatchObject({ kind: 'waiting' });
  });
});

describe('a move', () => {
  it('joins on the new link before it closes the old one, with 1000', async () => {
    const { socket, sockets } = connect();
    await socket(0).join({ offset: 3 });
    await socket(0).receive({ ev: 'move', url: 'wss://other.example/rooms/final/ws', withinMs: 5_000 });
    expect(sockets).toHaveLength(2);
    expect(socket(1).url).toBe('wss://other.example/rooms/final/ws?room=final&since=E.3');
    expect(socket(0).closedWith).toBeUndefined();
    await socket(1).join({ offset: 3 });
    expect(socket(0).closedWith).toBe(1000);
  });

  it('without an address goes to the same one', async () => {
    const { socket } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'move', withinMs: 5_000 });
    expect(socket(1).url).toContain('wss://danmu.example/rooms/final/ws?');
  });

  it('never leaves TLS', async () => {
    const { socket } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'move', url: 'ws://other.example/rooms/final/ws', withinMs: 5_000 });
    expect(socket(1).url).toMatch(/^wss:/);
  });

  it('shows each message once although both links bring it', async () => {
    const { socket, events, shown } = connect();
    await socket(0).join();
    await socket(0).receive(chat('A'), { ev: 'move', withinMs: 5_000 });
    await socket(1).join({ history: [{ id: 'A', text: 'A' }, { id: 'B', text: 'B' }] });
    await socket(0).receive(chat('B'), chat('C'));
    await socket(1).receive(chat('C'), chat('D'));
    expect(ids(events)).toEqual(['A', 'C', 'D']);
    expect(ids(shown)).toEqual(['A', 'B', 'C', 'D']);
  });

  it('does not repeat a removal that the old link has brought already', async () => {
    const { socket, shown } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'move', withinMs: 5_000 }, clear(1), chat('A'));
    await socket(1).receive(joined({ offset: 2, history: [chat('A')] }), clear(1), clear(2));
    expect(shown).toMatchObject([{ ev: 'removed', offset: 1 }, { id: 'A' }, { ev: 'removed', offset: 2 }]);
  });

  it('takes what a new epoch numbers from the beginning, on the link that joined in the old one', async () => {
    const { socket, events } = connect();
    await socket(0).join({ offset: 0 });
    await socket(0).receive({ ev: 'move', withinMs: 5_000 }, gift('G9', 9));
    await socket(1).join({ offset: 9 });
    await socket(1).receive({ ev: 'gap', lane: 'priority', epoch: 'F' }, gift('G1', 1));
    expect(ids(events)).toEqual(['G9', 'gap', 'G1']);
  });

  it('does not count offsets of the old epoch in the new one', async () => {
    const { socket, clock } = connect();
    await socket(0).join({ epoch: 'OLD', offset: 90 });
    await socket(0).receive({ ev: 'move', withinMs: 5_000 });
    await socket(1).join({ epoch: 'NEW', offset: 2 });
    await socket(0).receive(gift('G', 91));
    await socket(1).end(1006);
    await clock.pass(500);
    expect(new URL(socket(2).url).searchParams.get('since')).toBe('NEW.2');
  });

  it('that fails keeps the old link and tries again, at the usual address', async () => {
    const { connection, clock, socket, sockets, states } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'move', url: 'wss://gone.example/ws', withinMs: 5_000 });
    await socket(1).end(1006);
    expect(connection.say({ text: 'still here', ref: '1' })).toBe(true);
    await clock.pass(500);
    expect(sockets).toHaveLength(3);
    expect(socket(2).url).toContain('danmu.example/rooms/');
    expect(new URL(socket(2).url).searchParams.get('moved'), 'it is not sent there once more').toBe('1');
    expect(states.map((state) => state.kind)).toEqual(['connecting', 'open']);
  });

  it('that is still under way when the old link ends becomes the connection', async () => {
    const { connection, socket, sockets, clock, lastState } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'move', withinMs: 5_000 });
    await socket(0).end(4001);
    expect(lastState()).toEqual({ kind: 'connecting' });
    await socket(1).join();
    await clock.pass(5_000);
    expect(lastState()).toEqual({ kind: 'open' });
    expect(sockets).toHaveLength(2);
    expect(connection.say({ text: 'here', ref: '1' })).toBe(true);
  });

  it('waits a moment for the answer to what was just said', async () => {
    const { connection, clock, socket, events } = connect();
    await socket(0).join();
    connection.say({ text: 'hi', ref: '7' });
    await socket(0).receive({ ev: 'move', withinMs: 5_000 });
    await socket(1).join();
    expect(socket(0).closedWith).toBeUndefined();
    await socket(0).receive({ ev: 'ack', ref: '7', id: 'A', shown: true });
    expect(ids(events)).toEqual(['A']);
    await clock.pass(1_000);
    expect(socket(0).closedWith).toBe(1000);
  });

  it('asked for twice opens one link', async () => {
    const { socket, sockets } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'move', withinMs: 5_000 }, { ev: 'move', withinMs: 5_000 });
    expect(sockets).toHaveLength(2);
  });
});

describe('a silent link', () => {
  it('is asked after a minute and left ten seconds later', async () => {
    const { clock, socket, sockets, lastState } = connect();
    await socket(0).join();
    await clock.pass(60_000);
    expect(socket(0).sent).toEqual([{ op: 'ping' }]);
    await clock.pass(9_999);
    expect(lastState()).toEqual({ kind: 'open' });
    await clock.pass(1);
    expect(lastState()).toMatchObject({ kind: 'waiting', words: 'the connection went silent' });
    await clock.pass(500);
    expect(sockets).toHaveLength(2);
  });

  it('that answers is kept', async () => {
    const { clock, socket, sockets } = connect();
    await socket(0).join();
    await clock.pass(60_000);
    await socket(0).receive({ ev: 'pong' });
    await clock.pass(50_000);
    expect(sockets).toHaveLength(1);
  });

  it('is not asked while frames come', async () => {
    const { clock, socket } = connect();
    await socket(0).join();
    for (let minute = 0; minute < 5; minute++) {
      await clock.pass(50_000);
      await socket(0).receive(chat(`${minute}`));
    }
    expect(socket(0).sent).toEqual([]);
  });
});

describe('a link', () => {
  it('says nothing before a join and nothing more after a stop', async () => {
    const { connection, clock, socket, sockets, events } = connect();
    expect(connection.say({ text: 'too early', ref: '1' })).toBe(false);
    await socket(0).join();
    connection.stop();
    expect(socket(0).closedWith).toBe(1000);
    await socket(0).receive(chat('A'));
    await socket(0).end(1000);
    await clock.pass(60_000);
    expect([events.length, sockets.length]).toEqual([0, 1]);
  });

  it('a frame that cannot be read ends the link, and another is tried', async () => {
    const { socket, lastState } = connect();
    await socket(0).join();
    socket(0).onmessage?.({ data: '{"not":"an array"}' });
    await settle();
    expect(lastState()).toMatchObject({ kind: 'waiting', words: 'a frame could not be read' });
  });
});

describe('gifts of a combo', () => {
  it('are one event where they stand beside each other, and told again by another server they are not shown again', async () => {
    const { socket, events } = connect();
    await socket(0).join();
    await socket(0).receive({ ...gift('c', 3), merged: 3, count: 6, combo: 6 });
    await socket(0).receive({ ev: 'move', withinMs: 5_000 });
    await socket(1).join({ offset: 1 });
    // The other server had flushed the first one alone.
    await socket(1).receive(gift('a', 1), { ...gift('c', 3), merged: 2, count: 4, combo: 6 }, gift('d', 4));
    expect(ids(events)).toEqual(['c', 'd']);
  });
});

describe('what the page does not know', () => {
  it('has its place on the lane, so that it does not come again', async () => {
    const { socket, clock } = connect();
    await socket(0).join();
    await socket(0).receive({ ev: 'custom', id: 'x', offset: 9, kind: 'poll', data: {} });
    await socket(0).end(1006);
    await clock.pass(500);
    expect(socket(1).url).toContain('since=E.9');
  });
});

describe('a moderator', () => {
  it('asks with a mark, and only on a joined link', async () => {
    const { connection, socket } = connect();
    expect(connection.moderate('m1', { do: 'clear' })).toBe(false);
    await socket(0).join();
    expect(connection.moderate('m2', { do: 'mute', user: 'u1', seconds: 60 })).toBe(true);
    expect(socket(0).sent).toEqual([{ op: 'moderate', ref: 'm2', do: 'mute', user: 'u1', seconds: 60 }]);
  });
});
