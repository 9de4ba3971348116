/**
 * Runs the page test against the fake server, so that the test itself is known to work, and once
 * against a server without the admin token, so that it is known to fail.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { startFakeServer } from './fake-server.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const token = (claims) =>
  [{ alg: 'none' }, claims, 'fake'].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');

function runPageTest(server, adminToken, more = []) {
  const test = spawn(process.execPath, [
    here('page.mjs'), '--base', server.base, '--admin', server.admin, '--admin-token', adminToken,
    '--token-a', token({ sub: 'ann', name: 'Ann', role: 'moderator' }),
    '--token-b', token({ sub: 'bo', name: 'Bo', role: 'speaker' }),
    '--token-moderator', token({ sub: 'mo', name: 'Mo', role: 'moderator' }), ...more,
  ], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [test.stdout, test.stderr]) stream.on('data', (text) => { output += text; });
  return new Promise((resolve) => test.on('exit', (code) => resolve({ code, output })));
}

const server = await startFakeServer();
try {
  const good = await runPageTest(server, server.adminToken, ['--screenshots', here('screenshots')]);
  process.stdout.write(good.output);
  const bad = await runPageTest(server, 'wrong');
  const toldWhy = bad.code === 1 && bad.output.includes('the admin API answered 401');
  if (!toldWhy) console.error(`self-test: with a wrong admin token the page test should fail and say why, but:\n${bad.output}`);
  process.exitCode = good.code === 0 && toldWhy ? 0 : 1;
} finally {
  server.stop();
}
