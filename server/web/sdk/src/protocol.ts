/**
 * Wire protocol v1 as a viewer sees it: the words of `danmu-wire`, read with suspicion.
 * What cannot be read is left out; an event of a newer server never stops the others of its frame.
 */

import type { ActionName, EventName, OpName, RefusalCode } from './table.ts';

export type Role = 'viewer' | 'speaker' | 'moderator' | 'publisher';
export type Placing = 'scroll' | 'top' | 'bottom';
export type Size = 'small' | 'normal' | 'large';
export type Anonymous = 'deny' | 'watch' | 'speak';

export interface Style {
  mode: Placing;
  /** `#rrggbb`; absent is the page's own colour. */
  color?: string;
  size: Size;
}

export interface Chat extends Style {
  ev: 'chat';
  id: string;
  user?: string;
  name?: string;
  text: string;
  role: Role;
  /** How many said the same in this moment. */
  n: number;
}

export interface Gift {
  ev: 'gift';
  id: string;
  offset: number;
  user?: string;
  name?: string;
  gift: string;
  count: number;
  text?: string;
  /** How many gifts of the lane this event stands for. */
  merged: number;
  /** What the giver has given of this without a pause. */
  combo?: number;
}

/** Paid for: pinned for so many seconds. */
export interface Super {
  ev: 'super';
  id: string;
  offset: number;
  user?: string;
  name?: string;
  text: string;
  price?: string;
  seconds: number;
}

export interface Enter { ev: 'enter'; user?: string; name?: string }
/** Something of the platform's own. */
export interface Custom { ev: 'custom'; id: string; offset: number; kind: string; user?: string; data?: unknown }
/** To moderators: a message waits for a word. */
export interface Held { ev: 'held'; chat: Chat; at: number }
export interface Settled { ev: 'settled'; id: string; shown: boolean; by: string }
export interface Done { ev: 'done'; ref?: string }

export interface Notice { ev: 'notice'; id: string; offset: number; text: string }

/** What the room allows now. */
export interface Policy {
  anonymous: Anonymous;
  slowModeSeconds: number;
  /** Longest message in characters; 0 is unknown. */
  maxLength: number;
  /** Chat does not come by itself: it is fetched. */
  onDemand?: OnDemand;
}

export interface OnDemand {
  /** Milliseconds of a segment, the unit of what is fetched. */
  segmentMs: number;
  /** Where the live video is at this moment; absent in a replay. */
  atMs?: number;
}

/** Something said, at its position in the video. */
export interface Placed { at: number; event: Chat | Gift | Notice }

export interface Joined extends Policy {
  ev: 'joined';
  epoch: string;
  offset: number;
  /** With `since`: everything missed on the priority lane follows. False: some of it is gone. */
  recovered: boolean;
  viewers: number;
  /** The sub-room, where the room has several: sent back as `sub` on reconnect. */
  sub?: number;
  /** Viewers of the sub-room. */
  subViewers?: number;
  history: Chat[];
  /** What is pinned now, with the seconds that are left. */
  pinned: Super[];
}

export interface Mode extends Policy { ev: 'mode'; offset: number }
export interface Ack { ev: 'ack'; ref?: string; id: string; shown: boolean; held: boolean }
export interface Refused { ev: 'refused'; ref?: string; code: RefusalCode | (string & {}); text: string; retryMs?: number }
export interface Removed { ev: 'removed'; offset: number; ids: string[]; user?: string; all: boolean }
export interface Stats { ev: 'stats'; viewers: number; sampled: number; shedding?: number; subViewers?: number }
export interface Gap { ev: 'gap'; lane: 'priority' | 'chat'; dropped?: number; epoch?: string }
export interface Move { ev: 'move'; url?: string; withinMs: number }
export interface Pong { ev: 'pong' }

export type RoomEvent =
  | Chat | Gift | Notice | Super | Enter | Custom | Held | Settled | Done | Joined | Mode | Ack | Refused | Removed | Stats | Gap | Move | Pong;

export interface Say extends Partial<Style> { op: 'say'; text: string; ref: string; at?: number }

/** What a moderator does. */
export type Action =
  | { do: 'remove'; ids?: string[]; user?: string }
  | { do: 'mute' | 'shadow'; user: string; seconds?: number }
  | { do: 'unmute' | 'unshadow'; user: string }
  | { do: 'slow_mode'; seconds: number }
  | { do: 'show' | 'reject'; id: string }
  | { do: 'clear' | 'reset_slow_mode' | 'held' };
export type Moderate = { op: 'moderate'; ref: string } & Action;
export type Join = { op: 'join'; room: string; since?: string };
export type Op = Say | Moderate | Join | { op: 'token'; token: string } | { op: 'ping' };

/** Fails to compile where one side has a word that the other does not know. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
const eventsAreWhole: Same<RoomEvent['ev'], EventName> = true;
const opsAreWhole: Same<Op['op'], OpName> = true;
const actionsAreWhole: Same<Action['do'], ActionName> = true;
void [eventsAreWhole, opsAreWhole, actionsAreWhole];

/** Room ids are Kubernetes object names: a DNS label. */
export function isRoomId(id: unknown): id is string {
  return typeof id === 'string' && /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(id);
}

/** Reads one frame's JSON. Throws when it is not an array: that is no server of ours. */
export function readEvents(json: string): RoomEvent[] {
  const frame: unknown = JSON.parse(json);
  if (!Array.isArray(frame)) throw new TypeError('a frame is an array of events');
  const events: RoomEvent[] = [];
  for (const item of frame) {
    const event = readEvent(item);
    if (event) events.push(event);
  }
  return events;
}

/** Reads what was fetched of a segment. Throws when it is not an array, as above. */
export function readPlaced(json: string): Placed[] {
  const list: unknown = JSON.parse(json);
  if (!Array.isArray(list)) throw new TypeError('a segment is an array of events');
  return list.flatMap((item: unknown) => {
    const event = readEvent(item);
    const at = amount(Object(item)['at']);
    const isMessage = event?.ev === 'chat' || event?.ev === 'gift' || event?.ev === 'notice';
    return isMessage && at !== undefined ? [{ at, event }] : [];
  });
}

type Fields = Record<string, unknown>;

function readEvent(item: unknown): RoomEvent | undefined {
  if (typeof item !== 'object' || item === null) return undefined;
  const from = item as Fields;
  switch (from['ev']) {
    case 'chat': return readChat(from);
    case 'gift': return readGift(from);
    case 'notice': {
      const id = word(from['id']);
      return id ? { ev: 'notice', id, offset: count(from['offset']), text: word(from['text']) ?? '' } : undefined;
    }
    case 'super': return readSuper(from);
    case 'enter': return { ev: 'enter', ...optional({ user: word(from['user']), name: word(from['name']) }) };
    case 'custom': {
      const id = word(from['id']);
      return id ? { ev: 'custom', id, offset: count(from['offset']), kind: word(from['kind']) ?? '', data: from['data'], ...optional({ user: word(from['user']) }) } : undefined;
    }
    case 'held': {
      const chat = readChat(Object(from['chat']) as Fields);
      return chat && { ev: 'held', chat, at: count(from['at']) };
    }
    case 'settled': {
      const id = word(from['id']);
      return id ? { ev: 'settled', id, shown: from['shown'] === true, by: word(from['by']) ?? '' } : undefined;
    }
    case 'done': return { ev: 'done', ...optional({ ref: word(from['ref']) }) };
    case 'joined': return readJoined(from);
    case 'mode': return { ev: 'mode', offset: count(from['modeOffset']), ...readPolicy(from) };
    case 'ack': {
      const id = word(from['id']);
      return id ? { ev: 'ack', id, shown: from['shown'] !== false, held: from['held'] === true, ...optional({ ref: word(from['ref']) }) } : undefined;
    }
    case 'refused': return readRefused(from);
    case 'removed': return readRemoved(from);
    case 'stats': {
      const more = optional({ shedding: amount(from['shedding']), subViewers: amount(from['subViewers']) });
      return { ev: 'stats', viewers: count(from['viewers']), sampled: count(from['sampled']), ...more };
    }
    case 'gap': {
      const lane = from['lane'] === 'priority' ? 'priority' : 'chat';
      return { ev: 'gap', lane, ...optional({ dropped: amount(from['dropped']), epoch: word(from['epoch']) }) };
    }
    case 'move': return { ev: 'move', withinMs: count(from['withinMs']), ...optional({ url: word(from['url']) }) };
    case 'pong': return { ev: 'pong' };
    default: return undefined;
  }
}

function readChat(from: Fields): Chat | undefined {
  const [id, text] = [word(from['id']), word(from['text'])];
  if (!id || text === undefined) return undefined;
  const color = word(from['color']);
  return {
    ev: 'chat', id, text,
    mode: oneOf(from['mode'], ['scroll', 'top', 'bottom']),
    size: oneOf(from['size'], ['normal', 'small', 'large']),
    role: oneOf(from['role'], ['viewer', 'speaker', 'moderator', 'publisher']),
    n: Math.max(1, count(from['n'])),
    ...optional({ user: word(from['user']), name: word(from['name']) }),
    ...(color && /^#[0-9a-f]{6}$/.test(color) ? { color } : {}),
  };
}

function readGift(from: Fields): Gift | undefined {
  const [id, gift] = [word(from['id']), word(from['gift'])];
  if (!id || !gift) return undefined;
  return {
    ev: 'gift', id, gift,
    offset: count(from['offset']),
    count: Math.max(1, count(from['count'])),
    merged: Math.max(1, count(from['merged'])),
    ...optional({
      user: word(from['user']), name: word(from['name']), text: word(from['text']), combo: amount(from['combo']),
    }),
  };
}

function readSuper(from: Fields): Super | undefined {
  const [id, text] = [word(from['id']), word(from['text'])];
  if (!id || text === undefined) return undefined;
  return {
    ev: 'super', id, text,
    offset: count(from['offset']),
    // A timer takes no more than 24 days.
    seconds: Math.min(count(from['seconds']), 86_400),
    ...optional({ user: word(from['user']), name: word(from['name']), price: word(from['price']) }),
  };
}

function readJoined(from: Fields): Joined {
  const history = Array.isArray(from['history']) ? from['history'] : [];
  const pinned = Array.isArray(from['pinned']) ? from['pinned'] : [];
  return {
    ev: 'joined',
    epoch: word(from['epoch']) ?? '',
    offset: count(from['offset']),
    recovered: from['recovered'] === true,
    viewers: count(from['viewers']),
    ...optional({ sub: amount(from['sub']), subViewers: amount(from['subViewers']) }),
    ...readPolicy(from),
    history: history.flatMap((item: unknown) => readChat(Object(item) as Fields) ?? []),
    pinned: pinned.flatMap((item: unknown) => readSuper(Object(item) as Fields) ?? []),
  };
}

function readPolicy(from: Fields): Policy {
  return {
    // An unknown word is read as `speak`: the server still decides, and its refusal is shown.
    anonymous: oneOf(from['anonymous'], ['speak', 'watch', 'deny']),
    slowModeSeconds: count(from['slowModeSeconds']),
    maxLength: count(from['maxLength']),
    ...optional({ onDemand: readOnDemand(from['onDemand']) }),
  };
}

function readOnDemand(value: unknown): OnDemand | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const from = value as Fields;
  const segmentMs = amount(from['segmentMs']);
  // Without a length there is nothing to ask for.
  if (!segmentMs) return undefined;
  return { segmentMs, ...optional({ atMs: amount(from['atMs']) }) };
}

function readRefused(from: Fields): Refused {
  const code = word(from['code']) ?? 'unknown';
  return {
    ev: 'refused', code,
    text: word(from['text']) ?? code,
    ...optional({ ref: word(from['ref']), retryMs: amount(from['retryMs']) }),
  };
}

function readRemoved(from: Fields): Removed {
  const ids = Array.isArray(from['ids']) ? from['ids'] : [];
  return {
    ev: 'removed',
    offset: count(from['offset']),
    ids: ids.filter((id: unknown) => typeof id === 'string'),
    all: from['all'] === true,
    ...optional({ user: word(from['user']) }),
  };
}

function word(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function amount(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function count(value: unknown): number {
  return amount(value) ?? 0;
}

/** The value when it is one of the choices, else the first choice. */
function oneOf<T extends string>(value: unknown, choices: readonly [T, ...T[]]): T {
  return choices.find((choice) => choice === value) ?? choices[0];
}

/** Leaves out what is undefined, so that "absent" has one form. */
function optional<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
