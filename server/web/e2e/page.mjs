/**
 * The page in headless Chromium against a running danmu-server with the room `worlds-final`.
 *
 *   node e2e/page.mjs --base http://127.0.0.1:8080 --admin http://127.0.0.1:9090 --admin-token T \
 *     --token-a JWT --token-b JWT [--token-moderator JWT] [--screenshots DIR] [--next-base URL --next-admin URL]
 *
 * The two tokens are of two users who may speak in that room. With a second server (--next-*), the first
 * is drained at the end and a page moves from it to the second. CHROMIUM names another browser.
 * Ends with 0 when every check held; else with 1 and what went wrong, in words.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { openFrontDoor } from './front-door.mjs';

const ROOM = 'worlds-final';
/** A room of `mode: OnDemand`; only a real server has it. */
const REPLAY = 'semifinal-replay';
/** Longer than a slow machine needs; no check waits without an end. */
const DEADLINE_MS = 10_000;
/** A room's own limit is three messages in five seconds for each user; moderators alone are exempt. */
const BETWEEN_MESSAGES_MS = 1_800;
const BROWSER_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const MARKUP = `<img src=x onerror="document.title='owned'"> <b>bold</b>`;

const { values: options } = parseArgs({
  options: {
    base: { type: 'string', default: 'http://127.0.0.1:8080' },
    admin: { type: 'string', default: 'http://127.0.0.1:9090' },
    'admin-token': { type: 'string', default: '' },
    'token-a': { type: 'string' },
    'token-b': { type: 'string' },
    'token-moderator': { type: 'string' },
    screenshots: { type: 'string' },
    'next-base': { type: 'string' },
    'next-admin': { type: 'string' },
  },
});

class Failure extends Error {}

function check(holds, words) {
  if (!holds) throw new Failure(words);
}

/** Console errors, exceptions and policy violations of every page, with where they came from. */
const faults = [];

async function openPage(browser, name, settings = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...settings });
  context.setDefaultTimeout(DEADLINE_MS);
  await context.exposeBinding('reportViolation', (_source, words) => faults.push(`${name}: ${words}`));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      window.reportViolation(`policy violation: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  const page = await context.newPage();
  page.on('console', (message) => { if (message.type() === 'error') faults.push(`${name}: console: ${message.text()}`); });
  page.on('pageerror', (error) => faults.push(`${name}: exception: ${error.message}`));
  return page;
}

async function enterRoom(browser, name, token, settings) {
  return joinRoom(await openPage(browser, name, settings), name, token, options.base);
}

async function joinRoom(page, name, token, base) {
  const fragment = token ? `#token=${token}` : '';
  const response = await page.goto(`${base}/rooms/${ROOM}${fragment}`);
  check(response?.ok(), `${name}: the room's page answered ${response?.status()}`);
  await page.locator('[data-test=status][data-state=open]').waitFor({ state: 'attached' })
    .catch(() => { throw new Failure(`${name}: never joined the room`); });
  check(!page.url().includes('token'), `${name}: the token is still in the address bar`);
  return page;
}

let saidAt = 0;

async function say(page, text) {
  await page.waitForTimeout(Math.max(0, saidAt + BETWEEN_MESSAGES_MS - Date.now()));
  saidAt = Date.now();
  await page.locator('[data-test=input]').fill(text);
  await page.locator('[data-test=send]').click();
}

/** Waits for a line of the log with exactly this text. */
async function sees(page, who, text) {
  await page.locator('[data-test=words]').getByText(text, { exact: true }).last().waitFor()
    .catch(() => { throw new Failure(`${who} never showed "${text}"`); });
}

async function admin(path, body) {
  await ask(options.admin, 'POST', `/rooms/${ROOM}/${path}`, body);
}

async function ask(server, method, path, body) {
  const response = await fetch(`${server}${path}`, {
    method,
    headers: { authorization: `Bearer ${options['admin-token']}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  check(response.ok, `the admin API answered ${response.status} to ${method} ${path}: ${await response.text()}`);
}

async function picture(page, name) {
  if (options.screenshots) await page.screenshot({ path: join(options.screenshots, `${name}.png`) });
}

function userOf(token) {
  try {
    return JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString()).sub;
  } catch {
    throw new Failure('--token-a and --token-b are JWTs of two users who may speak in worlds-final');
  }
}

async function checkRoomsList(browser) {
  const page = await openPage(browser, 'rooms');
  const response = await page.goto(`${options.base}/`);
  const policy = response?.headers()['content-security-policy'] ?? '';
  check(policy.includes("script-src 'self'") && !policy.includes('unsafe'), `the page's policy is not strict: "${policy}"`);
  await page.locator(`[data-test=room-entry] a[href="/rooms/${ROOM}"]`).waitFor()
    .catch(() => { throw new Failure(`/ does not list ${ROOM}`); });
  await picture(page, 'rooms');
  await page.context().close();
}

async function checkTalk(a, b) {
  const text = `hello from a ${Date.now() % 100_000}`;
  await say(a, text);
  await sees(b, 'page b', text);
  await sees(a, 'page a', text);
  check(await a.locator('[data-test=line].own').getByText(text).count() === 1, "page a does not mark its viewer's own message");
  check(await b.locator('[data-test=line].own').getByText(text).count() === 0, "page b marks another's message as its viewer's own");
  const flying = await b.locator('[data-test=stage] [data-test=danmu]').allTextContents();
  check(flying.includes(text), `page b shows "${text}" in the log, but nothing flies: [${flying.join(' | ')}]`);
}

async function checkMarkup(a, b) {
  await say(a, MARKUP);
  await sees(b, 'page b', MARKUP);
  for (const [name, page] of [['a', a], ['b', b]]) {
    check(await page.locator('img').count() === 0, `page ${name}: markup in a message became an <img>`);
    check(await page.locator('[data-test=words] b, [data-test=danmu] b').count() === 0, `page ${name}: markup in a message became a <b>`);
    check(await page.title() !== 'owned', `page ${name}: script in a message ran`);
  }
}

async function checkGift(pages) {
  await admin('publish', { kind: 'gift', gift: 'rocket', count: 2, user: 'ann' });
  for (const [name, page] of pages) {
    const card = page.locator('[data-test=gift]').last();
    await card.waitFor().catch(() => { throw new Failure(`page ${name} never showed the gift`); });
    const words = await card.textContent();
    check(/ann/.test(words) && /rocket/.test(words) && /× 2/.test(words), `page ${name} shows the gift as "${words}"`);
  }
}

/** Gifts of one viewer in a row are one card with a rising count. */
async function checkCombo(pages) {
  for (const count of [1, 2, 3]) await admin('publish', { kind: 'gift', gift: 'rose', count, user: 'bo' });
  for (const [name, page] of pages) {
    const card = page.locator('[data-test=gift]').filter({ hasText: 'rose' });
    await card.locator('[data-test=gift-count]').getByText('× 6').waitFor()
      .catch(() => { throw new Failure(`page ${name} never counted the roses up to 6`); });
    check(await card.count() === 1, `page ${name} shows ${await card.count()} cards for one combo`);
  }
}

/** What is paid for is pinned, also for whoever comes later; what the page does not know harms nothing. */
async function checkPinned(browser, pages) {
  await admin('publish', { kind: 'custom', custom: 'poll', data: { question: 'who wins?' } });
  await admin('publish', { kind: 'super', text: 'Go, blue team!', price: '¥30', user: 'bo', seconds: 600 });
  for (const [name, page] of pages) {
    await page.locator('[data-test=pinned] [data-test=super]').getByText('Go, blue team!').waitFor()
      .catch(() => { throw new Failure(`page ${name} never pinned what was paid for`); });
  }
  if (!options['token-moderator']) return;
  const late = await enterRoom(browser, 'late', undefined);
  await late.locator('[data-test=pinned]').getByText('Go, blue team!').waitFor()
    .catch(() => { throw new Failure('who came later is not shown what is pinned'); });
  await late.context().close();
}

/** A moderator lets a held message out, takes a line off everybody's screen, and sets slow mode. */
async function checkDesk(browser, b) {
  const desk = await enterRoom(browser, 'moderator', options['token-moderator']);
  check(await b.locator('[data-test=desk]').count() === 0, 'page b has a moderation panel without being a moderator');
  const text = `to the casino ${Date.now() % 100_000}`;
  await say(b, text);
  const held = desk.locator('[data-test=held-line]').filter({ hasText: text });
  await held.waitFor().catch(() => { throw new Failure('the moderator is not told of a held message'); });
  check(await b.locator('[data-test=words]').getByText(text).count() === 0, 'a held message is shown before the word of a moderator');
  await picture(desk, 'desk');
  await held.locator('[data-test=show]').click();
  await sees(b, 'page b', text);
  await held.waitFor({ state: 'detached' }).catch(() => { throw new Failure('a message that was let out still waits'); });
  const line = desk.locator('[data-test=line]').filter({ hasText: text });
  await line.hover();
  await line.locator('[data-test=delete]').click();
  await b.locator('[data-test=words]').getByText(text).waitFor({ state: 'detached' })
    .catch(() => { throw new Failure('a line that a moderator deleted stays on page b'); });
  for (const [seconds, placeholder] of [['30', /Slow mode/], ['0', /Say something/]]) {
    await desk.locator('[data-test=slow-mode]').selectOption(seconds);
    await b.waitForFunction((pattern) => new RegExp(pattern).test(document.querySelector('[data-test=input]').placeholder), placeholder.source)
      .catch(() => { throw new Failure(`page b is not told that slow mode is ${seconds}`); });
  }
  await desk.context().close();
}

async function checkNotice(pages) {
  await admin('publish', { kind: 'notice', text: 'The final starts in five minutes' });
  for (const [name, page] of pages) {
    await page.locator('[data-test=notice]').getByText('five minutes').waitFor()
      .catch(() => { throw new Failure(`page ${name} never showed the notice`); });
  }
}

async function checkMute(a, b) {
  await admin('mutes', { user: userOf(options['token-b']), seconds: 60 });
  const text = `nobody should read this ${Date.now() % 100_000}`;
  await say(b, text);
  const refusal = b.locator('[data-test=refusal].refused');
  await refusal.waitFor().catch(() => { throw new Failure('the muted viewer saw no refusal'); });
  const words = await refusal.textContent();
  check(/muted/i.test(words), `the muted viewer is told "${words}", which does not say muted`);
  check(await b.locator('[data-test=input]').inputValue() === text, 'the refused text was not given back to its writer');
  const after = `after the mute ${Date.now() % 100_000}`;
  await say(a, after);
  await sees(b, 'page b', after);
  // What page a should not show would have come before this.
  await sees(a, 'page a', after);
  check(await a.locator('[data-test=words]').getByText(text).count() === 0, "a muted viewer's message was shown to another");
}

async function checkPhone(browser) {
  const phone = await enterRoom(browser, 'phone', options['token-a'], { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  await say(phone, 'from a phone '.repeat(7).trim());
  await sees(phone, 'the phone', 'from a phone '.repeat(7).trim());
  const width = await phone.evaluate(() => document.documentElement.scrollWidth);
  check(width <= 360, `at 360 px the page is ${width} px wide and scrolls sideways`);
  await phone.waitForTimeout(700); // for the picture only: let something fly in
  await picture(phone, 'phone');
  await phone.context().close();
}

async function checkReducedMotion(browser, b) {
  const still = await enterRoom(browser, 'still', options['token-a'], { reducedMotion: 'reduce' });
  const text = `standing still ${Date.now() % 100_000}`;
  await say(still, text);
  await sees(b, 'page b', text);
  await still.locator('.still > [data-test=danmu]').getByText(text).waitFor()
    .catch(() => { throw new Failure('with reduced motion the message is not in the standing list'); });
  await picture(still, 'reduced-motion');
  await still.context().close();
}

/** Runs in the page before its scripts: what becomes of its WebSockets and of what it says of them. */
function watchConnections() {
  const sockets = (window.watchedSockets = []);
  window.WebSocket = class extends WebSocket {
    constructor(...address) {
      super(...address);
      const watched = { joined: 0, closed: 0, moves: 0 };
      sockets.push(watched);
      this.addEventListener('message', ({ data }) => {
        if (typeof data !== 'string') return;
        if (data.includes('"ev":"joined"')) watched.joined = performance.now();
        if (data.includes('"ev":"move"')) watched.moves += 1;
      });
      this.addEventListener('close', ({ code }) => Object.assign(watched, { closed: performance.now(), code }));
    }
  };
  const states = (window.watchedStates = []);
  new MutationObserver((changes) => {
    for (const { target } of changes) if (target.matches('[data-test=status]')) states.push(target.dataset.state);
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ['data-state'] });
}

/** A drain of one server, as a rollout does it: the page is on the next one before it leaves the old one. */
async function checkMove(browser) {
  const servers = [options.admin, options['next-admin']];
  const door = await openFrontDoor(options.base);
  try {
    const page = await openPage(browser, 'mover');
    await page.addInitScript(watchConnections);
    await joinRoom(page, 'mover', options['token-a'], door.base);
    door.leadTo(options['next-base']);
    await ask(servers[0], 'POST', '/drain', { seconds: 6 });
    // A message on each server again and again: the page must show those of the one it is on.
    const sent = [[], []];
    const until = Date.now() + DEADLINE_MS;
    let moved = false;
    while (!moved || sent[1].length < 3) {
      check(Date.now() < until, 'the page did not move though its server is being drained');
      for (const [index, server] of servers.entries()) {
        const text = `on server ${index + 1}, number ${sent[index].length}`;
        const at = await page.evaluate(() => performance.now());
        await ask(server, 'POST', `/rooms/${ROOM}/publish`, { kind: 'chat', user: 'ann', text });
        sent[index].push({ text, at });
      }
      await page.waitForTimeout(150);
      moved = await page.evaluate(() => window.watchedSockets[0].closed > 0);
    }
    await sees(page, 'the moving page', sent[1].at(-1).text);
    const [old, next, ...more] = await page.evaluate(() => window.watchedSockets);
    const states = await page.evaluate(() => window.watchedStates);
    check(old.moves === 1, `the page was asked to move ${old.moves} times`);
    check(next && more.length === 0, `the page used ${1 + more.length + (next ? 1 : 0)} connections for one move`);
    check(next.joined > 0 && next.joined <= old.closed, 'the page closed its old connection before the new one had joined');
    check(old.code === 1000, `the old connection was closed with ${old.code}: the server had to end it`);
    check(next.closed === 0, 'the new connection was closed as well');
    const others = states.slice(states.indexOf('open')).filter((state) => state !== 'open');
    check(others.length === 0, `while moving the page told its viewer: ${others.join(', ')}`);
    const shown = await page.locator('[data-test=words]').allTextContents();
    const missed = [
      ...sent[0].filter(({ at }, index) => (sent[0][index + 1]?.at ?? Infinity) < next.joined && at > old.joined),
      ...sent[1].filter(({ at }) => at > next.joined),
    ].filter(({ text }) => !shown.includes(text));
    check(missed.length === 0, `not shown: ${missed.map(({ text }) => text).join('; ')}`);
    check(new Set(shown).size === shown.length, 'a message is shown twice');
    await page.context().close();
    await ask(servers[0], 'DELETE', '/drain');
  } finally {
    door.close();
  }
}

/** A replay: what one viewer says at a moment of the video, another sees when the moment comes. */
async function checkReplay(browser) {
  const enter = async (name, token) => {
    const page = await openPage(browser, name);
    await page.goto(`${options.base}/rooms/${REPLAY}#token=${token}`);
    await page.locator('[data-test=status][data-state=open]').waitFor({ state: 'attached' });
    await page.locator('[data-test=timeline]').waitFor()
      .catch(() => { throw new Failure(`${name}: a replay has no timeline`); });
    return page;
  };
  const seek = (page, seconds) => page.locator('[data-test=seek]').evaluate((slider, value) => {
    slider.value = String(value);
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  }, seconds);
  const writer = await enter('writer', options['token-a']);
  await seek(writer, 600);
  const text = `at ten minutes ${Date.now() % 100_000}`;
  await say(writer, text);
  await sees(writer, 'the writer', text);
  const reader = await enter('reader', options['token-b']);
  await reader.waitForTimeout(1_500);
  const shown = () => reader.locator('[data-test=words]').getByText(text).count();
  check(await shown() === 0, 'the reader, at the beginning of the video, sees what was said at ten minutes');
  await seek(reader, 598);
  await sees(reader, 'the reader', text);
  await reader.waitForTimeout(600);
  check(await shown() === 1, `the reader sees it ${await shown()} times`);
  check(await writer.locator('[data-test=words]').getByText(text).count() === 1, 'the writer sees it twice');
  await picture(reader, 'replay');
  for (const page of [writer, reader]) await page.context().close();
}

async function run(browser) {
  await checkRoomsList(browser);
  const a = await enterRoom(browser, 'a', options['token-a']);
  const b = await enterRoom(browser, 'b', options['token-b']);
  const pages = [['a', a], ['b', b]];
  await checkTalk(a, b);
  await checkMarkup(a, b);
  await checkGift(pages);
  await checkCombo(pages);
  await checkPinned(browser, pages);
  await checkNotice(pages);
  await b.waitForTimeout(1200); // for the picture only: let the danmu fly in
  await picture(b, 'room');
  if (options['token-moderator']) await checkDesk(browser, b);
  await checkMute(a, b);
  await picture(b, 'refused');
  await checkPhone(browser);
  await checkReducedMotion(browser, b);
  // Their server is about to be drained, and they have no other to go to.
  for (const [, page] of pages) await page.context().close();
  if (options['next-base']) {
    await checkReplay(browser);
    await checkMove(browser);
  }
  check(faults.length === 0, `the browser complained:\n  ${faults.join('\n  ')}`);
}

let browser;
try {
  if (!options['token-a'] || !options['token-b']) throw new Failure('--token-a and --token-b are needed');
  if (options.screenshots) await mkdir(options.screenshots, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true, chromiumSandbox: false,
    args: BROWSER_FLAGS, timeout: 60_000,
  });
  await run(browser);
  console.log('page: all checks held');
} catch (error) {
  const complaints = faults.length > 0 ? `\nthe browser said:\n  ${faults.join('\n  ')}` : '';
  console.error(`page: FAILED: ${error instanceof Failure ? error.message : error.stack}${complaints}`);
  process.exitCode = 1;
} finally {
  await browser?.close();
}
