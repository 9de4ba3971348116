import type { Role } from '@danmu/viewer';

/** Who the page is, as the token says; the server alone judges whether the token is good. */
export interface Identity { token: string; user?: string; role: Role }

const KEY = 'danmu.token';

/**
 * Takes a token from `#token=…` into the session's storage and out of the address bar, so that it
 * is neither bookmarked nor shared; else the one taken before.
 */
export function takeIdentity(): Identity | undefined {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const fresh = fragment.get('token');
  if (fresh) {
    sessionStorage.setItem(KEY, fresh);
    history.replaceState(history.state, '', location.pathname + location.search);
  }
  return readIdentity(sessionStorage.getItem(KEY));
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEY);
}

/** A token that could not be a WebSocket sub-protocol (RFC 6455: an HTTP token) counts as none. */
export function readIdentity(token: string | null): Identity | undefined {
  if (!token || !/^[\w.~+-]{1,4096}$/.test(token)) return undefined;
  const claims = readClaims(token);
  const role = (['speaker', 'moderator', 'publisher'] as const).find((known) => known === claims['role']);
  const user = claims['sub'];
  return { token, role: role ?? 'viewer', ...(typeof user === 'string' ? { user } : {}) };
}

function readClaims(token: string): Record<string, unknown> {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    return Object(JSON.parse(new TextDecoder().decode(bytes))) as Record<string, unknown>;
  } catch {
    return {}; // not a JWT: the server will say so
  }
}
