import { expect, it } from 'vitest';
import { RecentSet } from '../src/recent.ts';

it('a recent set knows its newest members and forgets the oldest', () => {
  const set = new RecentSet(2);
  expect([set.add('a'), set.add('a'), set.add('b'), set.add('c')]).toEqual([true, false, true, true]);
  expect([set.has('a'), set.has('b'), set.has('c')]).toEqual([false, true, true]);
});
