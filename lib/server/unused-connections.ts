import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/**
 * Closes connections that no request came over when the application is closed. Node takes them for busy ones, and a client that
 * connects ahead of time, as browsers do, would keep the server from ending for a minute.
 */
export function closeUnusedConnections(app: FastifyInstance): void {
  const unused = new Set<Socket>();
  for (const event of ['connection', 'secureConnection']) {
    app.server.on(event, (socket: Socket) => {
      // A secure connection is the one that requests come over; what it lies on is known by the same port.
      for (const below of unused) if (below !== socket && below.remotePort === socket.remotePort) unused.delete(below);
      unused.add(socket);
      socket.once('close', () => unused.delete(socket));
    });
  }
  app.server.on('request', ({ socket }: { socket: Socket }) => unused.delete(socket));
  app.addHook('preClose', async () => {
    for (const socket of unused) socket.destroy();
  });
}
