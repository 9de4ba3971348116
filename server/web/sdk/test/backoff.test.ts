import { describe, expect, it } from 'vitest';
import { Backoff } from '../src/backoff.ts';

describe('backoff', () => {
  it('waits anywhere between nothing and the cap (full jitter)', () => {
    expect(new Backoff(() => 0).next()).toBe(0);
    expect(new Backoff(() => 0.5).next()).toBe(500);
    expect(new Backoff(() => 0.999).next()).toBeLessThan(1_000);
  });

  it('doubles its cap from one second up to thirty and stays there', () => {
    const almostOne = new Backoff(() => 1);
    expect(Array.from({ length: 7 }, () => almostOne.next())).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  it('starts small again after a good connection', () => {
    const backoff = new Backoff(() => 1);
    for (let i = 0; i < 5; i++) backoff.next();
    backoff.reset();
    expect(backoff.next()).toBe(1_000);
  });
});
