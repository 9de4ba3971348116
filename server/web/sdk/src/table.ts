// Written by `cargo xtask sdk` from danmu-wire; do not edit.

export const PROTOCOL_JSON = 'danmu.v1.json';
export const PROTOCOL_DEFLATE = 'danmu.v1.deflate';
export const PROTOCOL_TOKEN_PREFIX = 'token.';

/** Every `ev` of an event. */
export const EVENT_NAMES = [
  'chat',
  'gift',
  'notice',
  'super',
  'enter',
  'custom',
  'joined',
  'ack',
  'refused',
  'removed',
  'stats',
  'mode',
  'held',
  'settled',
  'done',
  'gap',
  'move',
  'pong',
] as const;
export type EventName = (typeof EVENT_NAMES)[number];

/** Every `op` of an operation. */
export const OP_NAMES = [
  'say',
  'join',
  'token',
  'moderate',
  'ping',
] as const;
export type OpName = (typeof OP_NAMES)[number];

/** Every `do` of what a moderator does. */
export const ACTION_NAMES = [
  'remove',
  'clear',
  'mute',
  'unmute',
  'shadow',
  'unshadow',
  'slow_mode',
  'reset_slow_mode',
  'show',
  'reject',
  'held',
] as const;
export type ActionName = (typeof ACTION_NAMES)[number];

/** Why a server ends a connection, and whether to come back. */
export const CLOSE_CODES = {
  1000: { reason: "bye", reconnect: false },
  1001: { reason: "the server is going away", reconnect: true },
  1002: { reason: "the frame breaks the WebSocket protocol", reconnect: false },
  1007: { reason: "text must be UTF-8", reconnect: false },
  1009: { reason: "the message is too long", reconnect: false },
  4001: { reason: "this server is being drained: reconnect", reconnect: true },
  4005: { reason: "the token has expired: reconnect with a fresh one", reconnect: true },
  4008: { reason: "reading too slowly: reconnect", reconnect: true },
  4010: { reason: "no answer to pings: reconnect", reconnect: true },
  4013: { reason: "too busy: reconnect later", reconnect: true },
  4014: { reason: "disconnected by a moderator", reconnect: true },
  4501: { reason: "bad request", reconnect: false },
  4503: { reason: "banned", reconnect: false },
  4504: { reason: "the token is not valid", reconnect: false },
  4507: { reason: "not allowed in this room", reconnect: false },
  4510: { reason: "no such room", reconnect: false },
  4513: { reason: "too many frames", reconnect: false },
  4514: { reason: "no room was joined in time", reconnect: false },
} as const;
export type CloseCode = keyof typeof CLOSE_CODES;

/** Why something was not taken. */
export const REFUSALS = {
  bad_request: "that could not be understood",
  not_in_room: "join a room first",
  sign_in: "sign in to write here",
  watch_only: "you may only watch here",
  banned: "you are banned here",
  muted: "you are muted here",
  slow_mode: "slow mode is on: wait a little",
  user_rate: "you write too fast",
  connection_rate: "too many messages on this connection",
  address_rate: "too many messages from your network",
  empty: "there is nothing to show",
  too_long: "that is too long for this room",
  blocked_word: "that has a word which is not allowed here",
  style: "that style is not for you",
  busy: "the room is too busy: try again",
  position: "that is no position of this video",
  token_invalid: "the token is not valid",
  rejected: "your message was not let through",
  not_moderator: "only moderators may do that",
  not_found: "there was none",
} as const;
export type RefusalCode = keyof typeof REFUSALS;
