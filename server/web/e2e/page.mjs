/**
 * The page in headless Chromium against a running danmu-server with the room `worlds-final`.
 *
 *   node e2e/page.mjs --base http://127.0.0.1:8080 --admin http://127.0.0.1:9090 --admin-token T \
 *     --token-a JWT --token-b JWT [--screenshots DIR]
 *
 * The two tokens are of two users who may speak in that room. CHROMIUM names another browser.
 * Ends with 0 when every check held; else with 1 and what went wrong, in words.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const ROOM = 'worlds-final';
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
    screenshots: { type: 'string' },
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
  const page = await openPage(browser, name, settings);
  const fragment = token ? `#token=${token}` : '';
  const response = await page.goto(`${options.base}/rooms/${ROOM}${fragment}`);
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
  const response = await fetch(`${options.admin}/rooms/${ROOM}/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${options['admin-token']}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  check(response.ok, `the admin API answered ${response.status} to ${path}: ${await response.text()}`);
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

async function run(browser) {
  await checkRoomsList(browser);
  const a = await enterRoom(browser, 'a', options['token-a']);
  const b = await enterRoom(browser, 'b', options['token-b']);
  const pages = [['a', a], ['b', b]];
  await checkTalk(a, b);
  await checkMarkup(a, b);
  await checkGift(pages);
  await checkNotice(pages);
  await b.waitForTimeout(1200); // for the picture only: let the danmu fly in
  await picture(b, 'room');
  await checkMute(a, b);
  await picture(b, 'refused');
  await checkPhone(browser);
  await checkReducedMotion(browser, b);
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
