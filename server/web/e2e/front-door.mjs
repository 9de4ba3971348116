/**
 * What a Kubernetes Service does for a page: one address, and each new connection goes to the server
 * that is ready now. Connections that are open stay where they are.
 */
import { connect, createServer } from 'node:net';

export async function openFrontDoor(base) {
  let target = new URL(base);
  const sockets = new Set();
  const door = createServer((client) => {
    const server = connect(Number(target.port), target.hostname);
    for (const [from, to] of [[client, server], [server, client]]) {
      sockets.add(from);
      from.on('close', () => { sockets.delete(from); to.destroy(); });
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise((resolve, reject) => {
    door.once('error', reject);
    door.listen(0, '127.0.0.1', resolve);
  });
  return {
    base: `http://127.0.0.1:${door.address().port}`,
    /** From now on new connections go there. */
    leadTo(next) { target = new URL(next); },
    close() {
      door.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
