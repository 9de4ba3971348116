import { describe, expect, it } from 'vitest';
import type { RoomEvent } from '../src/protocol.ts';
import { DanmuViewer, type ViewerOptions } from '../src/viewer.ts';
import { FakeClock, FakeSocket, joined, settle } from './fake-network.ts';

function watch(options: Partial<ViewerOptions> = {}) {
  const clock = new FakeClock();
  const sockets: FakeSocket[] = [];
  const asked: [url: string, headers: Record<string, string>][] = [];
  const viewer = new DanmuViewer({
    url: 'https://danmu.example/some/page', room: 'final', clock, random: () => 0.5,
    open: (url, protocols) => {
      const socket = new FakeSocket(url, protocols);
      sockets.push(socket);
      return socket;
    },
    fetch: (url, headers) => {
      asked.push([url, headers]);
      return Promise.resolve({ ok: true, status: 200, text: () => Promise.resolve('[{"ev":"chat","id":"r1","text":"then","at":0}]') });
    },
    ...options,
  });
  const events: RoomEvent[] = [];
  viewer.on('event', (event) => events.push(event));
  const socket = (): FakeSocket => {
    const last = sockets.at(-1);
    if (!last) throw new Error('no socket was opened');
    return last;
  };
  return { viewer, clock, sockets, socket, asked, events };
}

describe('a viewer', () => {
  it('tells each event under its own name, and to nobody who stopped listening', async () => {
    const { viewer, socket } = watch();
    const told: unknown[] = [];
    viewer.on('joined', ({ viewers }, lost) => told.push(['joined', viewers, lost]));
    const stop = viewer.on('chat', (chat) => told.push(chat.text));
    viewer.start();
    await socket().receive(joined({ viewers: 3 }), { ev: 'chat', id: 'c1', text: 'hi' });
    stop();
    await socket().receive({ ev: 'chat', id: 'c2', text: 'again' });
    expect(told).toEqual([['joined', 3, false], 'hi']);
  });

  it('says and moderates with a ref of its own, and says nothing without a connection', async () => {
    const { viewer, socket } = watch();
    viewer.start();
    expect(viewer.say('too early')).toBeUndefined();
    await socket().join();
    const said = viewer.say({ text: 'hi', color: '#ff00aa' });
    const done = viewer.moderate({ do: 'clear' });
    expect(socket().sent).toEqual([
      { op: 'say', ref: said, text: 'hi', color: '#ff00aa' }, { op: 'moderate', ref: done, do: 'clear' },
    ]);
    expect(said).not.toBe(done);
  });

  it('goes on from a position and a part, keeps the part it is told, and sends it back', async () => {
    const { viewer, clock, socket } = watch({ since: 'E.7', sub: 2, format: 'json' });
    viewer.start();
    expect(socket().url).toBe('wss://danmu.example/rooms/final/ws?room=final&since=E.7&sub=2');
    await socket().join({ offset: 9, sub: 5 });
    expect([viewer.position, viewer.sub]).toEqual(['E.9', 5]);
    await socket().end(4001);
    await clock.pass(500);
    expect(socket().url).toBe('wss://danmu.example/rooms/final/ws?room=final&since=E.9&sub=5');
  });

  it('ignores a position that is none', () => {
    const { viewer, socket } = watch({ since: 'x&y=z' });
    viewer.start();
    expect(socket().url).toBe('wss://danmu.example/rooms/final/ws?room=final');
  });

  it('asks a function for a token before each connection, also after the last one expired', async () => {
    let asked = 0;
    const { viewer, clock, socket } = watch({ token: () => `t${++asked}` });
    viewer.start();
    expect(socket().protocols.at(-1)).toBe('token.t1');
    await socket().join();
    await socket().end(4005, 'the token has expired');
    await clock.pass(500);
    expect(socket().protocols.at(-1)).toBe('token.t2');
  });

  it('fetches in a replay what was said at its position, with the token, and says things there', async () => {
    const { viewer, clock, socket, asked, events } = watch({ token: 't', position: () => 500 });
    const replays: boolean[] = [];
    viewer.on('replay', (replay) => replays.push(replay));
    viewer.start();
    await socket().join({ onDemand: { segmentMs: 10_000 } });
    await settle();
    await clock.pass(300);
    expect(asked[0]).toEqual(['https://danmu.example/rooms/final/danmu?from=0&to=10000', { authorization: 'Bearer t' }]);
    expect(replays).toEqual([true]);
    viewer.say('here');
    expect(socket().sent).toMatchObject([{ op: 'say', text: 'here', at: 500 }]);
    await socket().receive({ ev: 'mode', modeOffset: 1, anonymous: 'speak', maxLength: 100 });
    expect(replays).toEqual([true, false]);
    expect(viewer.at()).toBeUndefined();
    expect(events.at(-1)?.ev).toBe('mode');
    viewer.stop();
  });
});
