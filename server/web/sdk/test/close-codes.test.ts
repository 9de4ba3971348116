import { describe, expect, it } from 'vitest';
import { afterClose, closeWords } from '../src/close-codes.ts';

describe('after a close', () => {
  it.each([1001, 1006, 1011, 1012, 4000, 4001, 4008, 4010, 4013, 4014, 4499])('%i: comes back', (code) => {
    expect(afterClose(code)).toBe('retry');
  });

  it.each([1000, 1002, 1007, 1009, 4500, 4501, 4503, 4507, 4510, 4513, 4999])('%i: stays away', (code) => {
    expect(afterClose(code)).toBe('stop');
  });

  it.each([4005, 4504])('%i: needs another token', (code) => {
    expect(afterClose(code)).toBe('new-token');
  });

  it("tells the server's reason, or words of its own", () => {
    expect(closeWords(4503, 'banned')).toBe('banned');
    expect(closeWords(1006, '')).toBe('the connection was lost');
    expect(closeWords(4599, '')).toContain('4599');
    expect(closeWords(4005, 'the token has expired: reconnect with a fresh one')).toBe('your sign-in has expired');
  });
});
