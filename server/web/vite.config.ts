import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// Where `npm run dev` finds a server for rooms and sockets.
const server = 'http://127.0.0.1:8080';

export default defineConfig({
  // The page is the SDK's first user, and takes it as it is here.
  resolve: { alias: { '@danmu/viewer': fileURLToPath(new URL('sdk/src/index.ts', import.meta.url)) } },
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    // The licence of what is bundled goes out with it.
    license: { fileName: 'assets/licences.md' },
  },
  server: {
    proxy: {
      '/rooms': {
        target: server,
        ws: true,
        // A room's address is the page for a browser and JSON for a program.
        bypass: (request) => (request.headers.accept?.includes('text/html') ? '/index.html' : undefined),
      },
    },
  },
  test: { include: ['test/**/*.test.ts', 'sdk/test/**/*.test.ts'] },
});
