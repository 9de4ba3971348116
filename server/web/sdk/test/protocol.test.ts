import { describe, expect, it } from 'vitest';
import { isRoomId, readEvents } from '../src/protocol.ts';

const read = (...events: unknown[]) => readEvents(JSON.stringify(events));

describe('reading a frame', () => {
  it('fills in what the wire leaves out', () => {
    expect(read({ ev: 'chat', id: 'A', text: 'hi' })).toEqual([
      { ev: 'chat', id: 'A', text: 'hi', mode: 'scroll', size: 'normal', role: 'viewer', n: 1 },
    ]);
  });

  it('reads a styled and merged chat', () => {
    const chat = { ev: 'chat', id: 'A', user: 'u1', name: 'Ann', text: 'hi', mode: 'top', color: '#ff0000', size: 'large', role: 'moderator', n: 3 };
    expect(read(chat)).toEqual([chat]);
  });

  it('reads joined with its policy and history', () => {
    const [joined] = read({
      ev: 'joined', room: 'r', epoch: 'E', offset: 7, recovered: true, viewers: 2, anonymous: 'watch', maxLength: 100,
      history: [{ id: 'A', text: 'before' }, 7, null, { id: 'B' }],
    });
    expect(joined).toMatchObject({ epoch: 'E', offset: 7, recovered: true, anonymous: 'watch', maxLength: 100, slowModeSeconds: 0 });
    expect(joined?.ev === 'joined' && joined.history.map((chat) => chat.text)).toEqual(['before']);
  });

  it('reads what is pinned, who came in, and combos', () => {
    const [joined, entered, gift] = read(
      { ev: 'joined', pinned: [{ id: 'S', text: 'hello', seconds: 1e12 }, { id: 7 }] },
      { ev: 'enter', name: 'Ann' },
      { ev: 'gift', id: 'G', gift: 'rose', offset: 7, count: 2, merged: 2, combo: 5 });
    expect(joined?.ev === 'joined' && joined.pinned).toEqual([{ ev: 'super', id: 'S', text: 'hello', offset: 0, seconds: 86_400 }]);
    expect(entered).toEqual({ ev: 'enter', name: 'Ann' });
    expect(gift).toMatchObject({ count: 2, merged: 2, combo: 5 });
  });

  it('reads what waits for a moderator, unless the message in it is broken', () => {
    expect(read({ ev: 'held', chat: { id: 'A', text: 'x' } }, { ev: 'held', chat: 3 }, { ev: 'settled', id: 'A', by: 'm' }))
      .toMatchObject([{ ev: 'held', chat: { id: 'A' } }, { ev: 'settled', id: 'A', shown: false }]);
  });

  it('takes no colour that is not #rrggbb', () => {
    const [chat] = read({ ev: 'chat', id: 'A', text: 'x', color: 'url(//evil)' });
    expect(chat).not.toHaveProperty('color');
  });

  it('leaves out unknown and broken events and keeps the others of the frame', () => {
    const events = read({ ev: 'from-the-future' }, null, 3, 'x', [], { ev: 'chat', id: 5, text: 'x' }, { ev: 'gift', id: 'G' }, { ev: 'pong' });
    expect(events).toEqual([{ ev: 'pong' }]);
  });

  it('reads numbers that make no sense as none', () => {
    expect(read({ ev: 'stats', viewers: -4, sampled: '7' })).toEqual([{ ev: 'stats', viewers: 0, sampled: 0 }]);
  });

  it('reads how to fetch, and takes no answer for how where there is no length', () => {
    const onDemand = (value: unknown) => {
      const [mode] = read({ ev: 'mode', anonymous: 'speak', onDemand: value });
      return mode?.ev === 'mode' ? mode.onDemand : 'no mode';
    };
    expect(onDemand({ segmentMs: 10_000 })).toEqual({ segmentMs: 10_000 });
    expect(onDemand({ segmentMs: 10_000, atMs: 5 })).toEqual({ segmentMs: 10_000, atMs: 5 });
    for (const none of [undefined, null, true, {}, { segmentMs: 0 }, { segmentMs: -1 }]) expect(onDemand(none)).toBeUndefined();
  });

  it('refuses a frame that is no array', () => {
    expect(() => readEvents('{"ev":"pong"}')).toThrow(TypeError);
    expect(() => readEvents('not json')).toThrow(SyntaxError);
  });
});

describe('room ids', () => {
  it('are DNS labels', () => {
    expect(['worlds-final', 'a', '0', 'x'.repeat(63)].every(isRoomId)).toBe(true);
    expect(['', 'Worlds', '-a', 'a-', 'a/b', 'x'.repeat(64), 7, undefined].some(isRoomId)).toBe(false);
  });
});
