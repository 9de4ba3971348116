/** A viewer of a Danmu room. `DanmuViewer` is the way in; the rest is what it is made of. */
export { DanmuViewer, type ViewerEvents, type ViewerOptions } from './viewer.ts';
export type { ConnectionState } from './connection.ts';
export { afterClose, closeWords, type AfterClose } from './close-codes.ts';
export type { Clock, Socket } from './link.ts';
export { isRoomId, readEvents, readPlaced } from './protocol.ts';
export type * from './protocol.ts';
export { RecentSet } from './recent.ts';
export type { Answer } from './replay.ts';
export * from './table.ts';
