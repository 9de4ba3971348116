import { describe, expect, it } from 'vitest';
import { Feed } from '../src/feed.ts';
import { Replay, type Answer } from '../src/replay.ts';
import { FakeClock, settle } from './fake-network.ts';

const chat = (at: number, id = `at-${at}`) => ({ at, ev: 'chat', id, text: id });

/** A video of which everything is said in `said`, and a viewer who watches it from the start. */
function watch(said: object[], options: { live?: boolean; from?: number; token?: string } = {}) {
  const clock = new FakeClock();
  const shown: string[] = [];
  const paths: string[] = [];
  const headers: Record<string, string>[] = [];
  const troubles: (string | undefined)[] = [];
  const video = { at: options.from ?? 0, since: 0 };
  const server = { status: 200, fails: false, hold: undefined as Promise<void> | undefined };
  const position = () => video.at + clock.now() - video.since;
  const fetch = async (path: string, sent: Record<string, string>): Promise<Answer> => {
    paths.push(path);
    headers.push(sent);
    await server.hold;
    if (server.fails) throw new TypeError('Failed to fetch');
    const range = new URL(path, 'http://a').searchParams;
    const [from, to] = [Number(range.get('from')), Number(range.get('to'))];
    const within = (said as { at: number }[]).filter(({ at }) => at >= from && at < to);
    const status = server.status;
    return { ok: status === 200, status, text: async () => JSON.stringify(within) };
  };
  const replay = new Replay({
    room: 'film', token: options.token, fetch, clock, random: () => 0.5, position, segmentMs: 10_000,
    live: options.live ?? false,
    onEvent: (event) => shown.push(event.id),
    onTrouble: (words) => troubles.push(words),
  });
  replay.start();
  const seek = (at: number) => { video.at = at; video.since = clock.now(); };
  return { clock, shown, paths, headers, troubles, server, seek, replay, said };
}

describe('a replay', () => {
  it('shows each event when its moment comes, once, and fetches a segment before it begins', async () => {
    const { clock, shown, paths } = watch([chat(100), chat(5_000), chat(9_990), chat(10_010), chat(25_000)]);
    await clock.pass(500);
    expect(shown).toEqual(['at-100']);
    expect(paths).toEqual(['/rooms/film/danmu?from=0&to=10000']);
    await clock.pass(7_000);
    expect(paths.at(-1)).toBe('/rooms/film/danmu?from=10000&to=20000');
    await clock.pass(3_000);
    expect(shown).toEqual(['at-100', 'at-5000', 'at-9990', 'at-10010']);
    await clock.pass(20_000);
    expect(shown).toEqual(['at-100', 'at-5000', 'at-9990', 'at-10010', 'at-25000']);
  });

  it('follows the viewer who seeks, shows nothing of what is skipped, and again what is seen again', async () => {
    const { clock, shown, paths, seek } = watch([chat(1_000), chat(50_000), chat(700_500)]);
    await clock.pass(2_000);
    seek(700_000);
    await clock.pass(1_000);
    expect(shown).toEqual(['at-1000', 'at-700500']);
    expect(paths.at(-1)).toBe('/rooms/film/danmu?from=700000&to=710000');
    seek(500);
    await clock.pass(1_000);
    expect(shown).toEqual(['at-1000', 'at-700500', 'at-1000']);
  });

  it('sends the token in a header and never in the address', async () => {
    const { clock, paths, headers } = watch([], { token: 'a.b.c' });
    await clock.pass(100);
    expect([paths[0], headers[0]]).toEqual(['/rooms/film/danmu?from=0&to=10000', { authorization: 'Bearer a.b.c' }]);
  });

  it('reads the newest segment of a live video again, and shows what came late', async () => {
    const { clock, shown, said } = watch([chat(1_000)], { live: true });
    await clock.pass(3_500);
    said.push(chat(1_500), chat(4_000));
    await clock.pass(2_500);
    expect(shown).toEqual(['at-1000', 'at-1500', 'at-4000']);
  });

  it('goes on after a failure, asks less and less often, and says so', async () => {
    const { clock, shown, paths, troubles, server } = watch([chat(1_000), chat(19_000)]);
    server.status = 503;
    await clock.pass(0);
    await clock.pass(6_000);
    expect(paths.length).toBeLessThan(8);
    expect(troubles.at(-1)).toBe('what was said here cannot be fetched (503)');
    server.status = 200;
    server.fails = true;
    await clock.pass(6_000);
    expect(troubles.at(-1)).toBe('what was said here cannot be fetched just now');
    server.fails = false;
    await clock.pass(12_000);
    expect(shown).toContain('at-19000');
    expect(troubles.at(-1)).toBeUndefined();
  });

  it('does not fail over an answer that is none', async () => {
    const { clock, shown } = watch([{ at: 100, ev: 'from-the-future' }, { at: -5, ev: 'chat', id: 'x', text: 'x' },
      { at: 200, ev: 'stats', viewers: 1 }, { at: 'soon', ev: 'chat', id: 'y', text: 'y' }, chat(300)]);
    await clock.pass(1_000);
    expect(shown).toEqual(['at-300']);
  });

  it('shows nothing once it is stopped, also of what is on its way', async () => {
    const { clock, shown, server, seek, replay } = watch([chat(50_100)]);
    let release = (): void => undefined;
    server.hold = new Promise((done) => { release = done; });
    seek(50_000);
    await clock.pass(1_000);
    replay.stop();
    release();
    await settle();
    await clock.pass(5_000);
    expect(shown).toEqual([]);
  });

  it('does not show twice what the viewer said', async () => {
    const { clock, shown, replay } = watch([chat(1_000, 'mine'), chat(1_100)]);
    replay.showed('mine');
    await clock.pass(2_000);
    expect(shown).toEqual(['at-1100']);
  });
});

describe('a feed', () => {
  function feed() {
    const clock = new FakeClock();
    const paths: string[] = [];
    const replays: boolean[] = [];
    const fetch = async (path: string): Promise<Answer> => {
      paths.push(path);
      return { ok: true, status: 200, text: async () => '[]' };
    };
    const options = {
      room: 'film', clock, fetch, random: () => 0.5, position: () => 61_000,
      onEvent: () => undefined, onTrouble: () => undefined, onReplay: (replay: boolean) => replays.push(replay),
    };
    return { clock, paths, replays, feed: new Feed(options) };
  }

  it('fetches nothing in a live room, and what is said there has no position', async () => {
    const { clock, paths, feed: live } = feed();
    live.set(undefined);
    await clock.pass(5_000);
    expect([paths, live.at()]).toEqual([[], undefined]);
  });

  it('turns to fetching and back when the room does', async () => {
    const { clock, paths, replays, feed: turning } = feed();
    turning.set({ segmentMs: 10_000 });
    await clock.pass(100);
    expect([paths, turning.at()]).toEqual([['/rooms/film/danmu?from=60000&to=70000'], 61_000]);
    turning.set(undefined);
    await clock.pass(60_000);
    expect([paths.length, turning.at(), replays]).toEqual([1, undefined, [true, false]]);
  });

  it('follows the live position, a little behind, and has no timeline then', async () => {
    const { clock, paths, replays, feed: shedding } = feed();
    shedding.set({ segmentMs: 10_000, atMs: 124_500 });
    expect([shedding.at(), paths, replays]).toEqual([120_500, [], [false]]);
    // Not in the moment in which every other viewer is told the same.
    await clock.pass(1_000);
    expect(paths).toEqual(['/rooms/film/danmu?from=120000&to=130000', '/rooms/film/danmu?from=110000&to=120000']);
    expect(shedding.at()).toBe(121_500);
    shedding.set({ segmentMs: 10_000, atMs: 200_000 });
    expect(shedding.at()).toBe(196_000);
  });
});
