import { expect, it } from 'vitest';
import { readIdentity } from '../src/token';

const token = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`;

it('a token tells who the viewer is', () => {
  expect(readIdentity(token({ sub: 'ann', role: 'moderator' }))).toMatchObject({ user: 'ann', role: 'moderator' });
  expect(readIdentity(token({ sub: '安', role: 'emperor' }))).toMatchObject({ user: '安', role: 'viewer' });
});

it('a token that is no JWT is still offered: the server says what is wrong with it', () => {
  expect(readIdentity('x.y.z')).toEqual({ token: 'x.y.z', role: 'viewer' });
});

it('what cannot be a sub-protocol counts as no token', () => {
  for (const bad of [null, '', 'a b', 'a,b', 'ü', 'x'.repeat(5000)]) expect(readIdentity(bad)).toBeUndefined();
});
