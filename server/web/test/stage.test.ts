import { expect, it } from 'vitest';
import { forgetShown } from '../src/stage';

it('comments that were shown are let go of, those to come are kept', () => {
  const engine = { comments: Array.from({ length: 503 }, (_, index) => index), _: { position: 500 } };
  forgetShown(engine);
  expect(engine).toEqual({ comments: [500, 501, 502], _: { position: 0 } });
});
