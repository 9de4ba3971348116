import { expect, it } from 'vitest';
import { readRooms } from '../src/rooms-page';

it('the busiest rooms come first, and what is no room is left out', () => {
  const answer = [{ id: 'b', viewers: 1 }, { id: 'a' }, { id: '../admin', viewers: 9 }, null, { id: 'c', viewers: 12, url: 'javascript:alert(1)' }];
  expect(readRooms(answer)).toEqual([{ id: 'c', viewers: 12 }, { id: 'b', viewers: 1 }, { id: 'a', viewers: 0 }]);
  expect(() => readRooms({})).toThrow(TypeError);
});
