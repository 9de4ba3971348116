import { deflateRawSync } from 'node:zlib';
import { describe, expect, it, vi } from 'vitest';
import { FrameReader, inflateRaw } from '../src/frames.ts';
import type { RoomEvent } from '../src/protocol.ts';

const frame = (id: string) => JSON.stringify([{ ev: 'notice', id, text: id }]);
const deflated = (text: string) => new Uint8Array(deflateRawSync(text)).buffer;
const ids = (events: RoomEvent[]) => events.map((event) => ('id' in event ? event.id : event.ev));

describe('frames', () => {
  it('inflates what the server deflated', async () => {
    expect(await inflateRaw(deflated('danmu 弹幕 🚀'))).toBe('danmu 弹幕 🚀');
  });

  it('gives up on a frame that inflates without measure', async () => {
    await expect(inflateRaw(deflated(' '.repeat(5 * 1024 * 1024)))).rejects.toThrow(RangeError);
  });

  it('come out in the order they came in, however long each takes to inflate', async () => {
    const got: string[] = [];
    const inflating: (() => void)[] = [];
    const inflate = (bytes: ArrayBuffer) =>
      new Promise<string>((resolve) => inflating.push(() => resolve(frame(new TextDecoder().decode(bytes)))));
    const bytes = (id: string) => new Uint8Array(new TextEncoder().encode(id)).buffer;
    const reader = new FrameReader(inflate, (events) => got.push(...ids(events)), () => got.push('bad'));
    reader.frame(bytes('first'));
    reader.frame(bytes('second'));
    reader.frame(frame('third'));
    reader.then(() => void got.push('end'));
    inflating[1]?.();
    await vi.waitFor(() => expect(inflating).toHaveLength(2));
    expect(got).toEqual([]);
    inflating[0]?.();
    await vi.waitFor(() => expect(got).toEqual(['first', 'second', 'third', 'end']));
  });

  it('report a bad one and go on', async () => {
    const got: string[] = [];
    const reader = new FrameReader(inflateRaw, (events) => got.push(...ids(events)), () => got.push('bad'));
    reader.frame(new Uint8Array([255, 255, 255]).buffer);
    reader.frame('{');
    reader.frame(frame('good'));
    await vi.waitFor(() => expect(got).toEqual(['bad', 'bad', 'good']));
  });

  it('survive a listener that throws', async () => {
    const told = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const got: string[] = [];
    const reader = new FrameReader(inflateRaw, (events) => {
      if (ids(events)[0] === 'poison') throw new Error('cannot be drawn');
      got.push(...ids(events));
    }, () => undefined);
    reader.frame(frame('poison'));
    reader.frame(frame('after'));
    await vi.waitFor(() => expect(got).toEqual(['after']));
    expect(told).toHaveBeenCalledOnce();
    told.mockRestore();
  });
});
