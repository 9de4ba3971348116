/**
 * A FAKE of danmu-server: just enough of its two ports to develop the page against and to test the
 * page test itself. It verifies no token, limits nothing and holds one process' memory only.
 *
 *   node e2e/fake-server.mjs [--public 8080] [--admin 9090] [--admin-token T]
 */
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { deflateRawSync } from 'node:zlib';
import { WebSocketServer } from 'ws';

const DIST = fileURLToPath(new URL('../dist/', import.meta.url));
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:";
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.md': 'text/markdown', '.html': 'text/html' };
const MAX_LENGTH = 100;

/** Rooms by id; the second lets nobody write without a token. */
function makeRooms() {
  const room = (anonymous) => ({ anonymous, viewers: new Set(), history: [], mutes: new Map(), held: new Map(), combos: new Map(), pinned: [], offset: 0 });
  return new Map([['worlds-final', room('speak')], ['quiet-lounge', room('watch')]]);
}

export async function startFakeServer({ publicPort = 0, adminPort = 0, adminToken = 'T' } = {}) {
  const rooms = makeRooms();
  const publicServer = createServer((request, response) => void servePublic(rooms, request, response));
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 4096, handleProtocols: chooseProtocol });
  publicServer.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (viewer) => welcome(rooms, viewer, request));
  });
  const adminServer = createServer((request, response) => void serveAdmin(rooms, adminToken, request, response));
  const base = await listen(publicServer, publicPort);
  const admin = await listen(adminServer, adminPort);
  const stop = () => {
    for (const viewer of sockets.clients) viewer.terminate();
    for (const server of [publicServer, adminServer]) {
      server.close();
      server.closeAllConnections();
    }
  };
  return { base, admin, adminToken, stop };
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

async function servePublic(rooms, request, response) {
  const { pathname } = new URL(request.url, 'http://fake');
  const wantsPage = request.headers.accept?.includes('text/html');
  if (pathname === '/rooms' && !wantsPage) {
    const list = [...rooms].map(([id, room]) => ({ id, viewers: room.viewers.size, url: `/rooms/${id}` }));
    return answer(response, 200, list);
  }
  const file = pathname.startsWith('/assets/') ? normalize(pathname) : '/index.html';
  try {
    const body = await readFile(join(DIST, file));
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-security-policy': POLICY });
    response.end(body);
  } catch {
    answer(response, 404, { error: 'no such file' });
  }
}

function chooseProtocol(offered) {
  return ['danmu.v1.deflate', 'danmu.v1.json'].find((protocol) => offered.has(protocol)) ?? false;
}

function welcome(rooms, viewer, request) {
  const room = rooms.get(new URL(request.url, 'http://fake').searchParams.get('room'));
  if (!room) return viewer.close(4510, 'no such room');
  viewer.claims = readClaims(request.headers['sec-websocket-protocol'] ?? '');
  room.viewers.add(viewer);
  viewer.on('close', () => {
    room.viewers.delete(viewer);
    broadcast(room, stats(room));
  });
  viewer.on('message', (data) => take(room, viewer, JSON.parse(data.toString())));
  send(viewer, {
    ev: 'joined', epoch: 'FAKE1', offset: room.offset, recovered: true, viewers: room.viewers.size,
    anonymous: room.anonymous, maxLength: MAX_LENGTH, history: room.history, pinned: room.pinned,
  });
  broadcast(room, stats(room));
}

function readClaims(offered) {
  const token = offered.split(',').map((entry) => entry.trim()).find((entry) => entry.startsWith('token.'));
  if (!token) return {};
  return JSON.parse(Buffer.from(token.split('.')[2], 'base64url').toString());
}

function take(room, viewer, op) {
  if (op.op === 'ping') return send(viewer, { ev: 'pong' });
  if (op.op === 'moderate') return moderate(room, viewer, op);
  if (op.op !== 'say') return undefined;
  const { sub: user, name, role = 'viewer' } = viewer.claims;
  const refuse = (code, text, more = {}) => send(viewer, { ev: 'refused', ref: op.ref, code, text, ...more });
  const mutedUntil = room.mutes.get(user) ?? 0;
  if (!user && room.anonymous !== 'speak') return refuse('sign_in', 'sign in to write here');
  if (mutedUntil > Date.now()) return refuse('muted', 'you are muted here', { retryMs: mutedUntil - Date.now() });
  if ([...op.text].length > MAX_LENGTH) return refuse('too_long', 'that is too long for this room');
  const chat = { ev: 'chat', id: randomUUID(), user, name, role, text: op.text, mode: op.mode, color: op.color, size: op.size };
  if (op.text.includes('casino')) {
    room.held.set(chat.id, chat);
    toModerators(room, { ev: 'held', chat });
    return send(viewer, { ev: 'ack', ref: op.ref, id: chat.id, shown: false, held: true });
  }
  // The word "left out" stands for a room over its cap.
  const shown = !op.text.includes('left out');
  if (!shown) {
    broadcast(room, { ...stats(room), sampled: 1 });
    return send(viewer, { ev: 'ack', ref: op.ref, id: chat.id, shown }, chat);
  }
  send(viewer, { ev: 'ack', ref: op.ref, id: chat.id, shown });
  room.history = [...room.history, chat].slice(-50);
  return broadcast(room, chat);
}

function toModerators(room, event) {
  for (const viewer of room.viewers) if (viewer.claims.role === 'moderator') send(viewer, event);
}

function moderate(room, viewer, op) {
  if (viewer.claims.role !== 'moderator') return send(viewer, { ev: 'refused', ref: op.ref, code: 'not_moderator', text: 'only moderators may do that' });
  if (op.do === 'show') broadcast(room, room.held.get(op.id));
  if (op.do === 'show' || op.do === 'reject') toModerators(room, { ev: 'settled', id: op.id, shown: op.do === 'show', by: viewer.claims.sub });
  if (op.do === 'remove') broadcast(room, { ev: 'removed', offset: ++room.offset, ids: op.ids });
  if (op.do === 'slow_mode') broadcast(room, { ev: 'mode', anonymous: room.anonymous, maxLength: MAX_LENGTH, slowModeSeconds: op.seconds });
  return send(viewer, { ev: 'done', ref: op.ref });
}

function stats(room) {
  return { ev: 'stats', viewers: room.viewers.size, sampled: 0 };
}

function send(viewer, ...events) {
  viewer.send(JSON.stringify(events));
}

function broadcast(room, ...events) {
  const json = JSON.stringify(events);
  for (const viewer of room.viewers) {
    // Always deflated, unlike the server, which leaves short frames alone: the page must read both.
    viewer.send(viewer.protocol === 'danmu.v1.deflate' ? deflateRawSync(json) : json);
  }
}

async function serveAdmin(rooms, adminToken, request, response) {
  if (request.headers.authorization !== `Bearer ${adminToken}`) return answer(response, 401, { error: 'bearer token needed' });
  const [, , id, action] = new URL(request.url, 'http://fake').pathname.split('/');
  const room = rooms.get(id);
  if (!room || request.method !== 'POST') return answer(response, 404, { error: 'no such room' });
  let text = '';
  for await (const part of request) text += part;
  const { kind, seconds, ...fields } = JSON.parse(text || '{}');
  if (kind === 'gift' && fields.user) {
    const key = `${fields.user} ${fields.gift}`;
    room.combos.set(key, (room.combos.get(key) ?? 0) + (fields.count ?? 1));
    fields.combo = room.combos.get(key);
  }
  const event = { ev: kind, id: randomUUID(), offset: ++room.offset, n: 1, ...fields };
  if (kind === 'super') room.pinned.push(Object.assign(event, { seconds }));
  if (action === 'publish') broadcast(room, event);
  else if (action === 'mutes') room.mutes.set(fields.user, Date.now() + (seconds ?? 3600) * 1000);
  else return answer(response, 404, { error: 'not in the fake' });
  return answer(response, 200, {});
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      public: { type: 'string', default: '8080' },
      admin: { type: 'string', default: '9090' },
      'admin-token': { type: 'string', default: 'T' },
    },
  });
  const server = await startFakeServer({
    publicPort: Number(values.public), adminPort: Number(values.admin), adminToken: values['admin-token'],
  });
  console.log(`fake danmu-server: page ${server.base}/  admin ${server.admin}/`);
}
