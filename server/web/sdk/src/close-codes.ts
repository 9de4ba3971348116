import { CLOSE_CODES } from './table.ts';

/** What a close code asks of a viewer. */
export type AfterClose =
  /** Come back with full jitter. */
  | 'retry'
  /** Come back only with another token, or without one. */
  | 'new-token'
  /** Do not come back. */
  | 'stop';

export const TOKEN_EXPIRED = 4005;
const TOKEN_INVALID = 4504;

export function afterClose(code: number): AfterClose {
  if (code === TOKEN_EXPIRED || code === TOKEN_INVALID) return 'new-token';
  const known = (CLOSE_CODES as Record<number, { reconnect: boolean } | undefined>)[code];
  if (known) return known.reconnect ? 'retry' : 'stop';
  // Of a newer server: the range says it. Of a proxy: a fault that the next try would repeat.
  if (code >= 4500 || [1003, 1008, 1010].includes(code)) return 'stop';
  // 4000-4499, 1006 (also a failed handshake), 1011, 1012 and what else a proxy may say.
  return 'retry';
}

/** The server's reason, or words of our own where a proxy or the network gave none. */
export function closeWords(code: number, reason: string): string {
  if (code === TOKEN_EXPIRED) return 'your sign-in has expired';
  if (reason) return reason;
  return afterClose(code) === 'retry' ? 'the connection was lost' : `the server ended the connection (code ${code})`;
}
