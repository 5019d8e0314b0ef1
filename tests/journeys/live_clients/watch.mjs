// Watches attempts as a frontend does, and prints one line of JSON for each: node watch.mjs ws|sse ORIGIN TOKEN
//
// When it is cut, the client library tries again by itself; all that is ours is to hand it the last cursor.

import { createClient as overSse } from "graphql-sse";
import { createClient as overWebSocket } from "graphql-ws";
import WebSocket from "ws";

const [transport, origin, token] = process.argv.slice(2);
const authorization = `Bearer ${token}`;
const often = { retryAttempts: 1000, retryWait: () => new Promise((done) => setTimeout(done, 50)) };

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const clients = {
  ws: () =>
    overWebSocket({
      url: `${origin.replace("http", "ws")}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { authorization },
      shouldRetry: () => true,
      on: { connected: () => tell({ connected: true }), closed: ({ code }) => tell({ cut: code }) },
      ...often,
    }),
  sse: () =>
    overSse({
      url: `${origin}/graphql`,
      headers: { authorization },
      on: { connected: (again) => tell(again ? { cut: true, connected: true } : { connected: true }) },
      retryAttempts: often.retryAttempts,
      retry: often.retryWait,
    }),
};

const request = {
  query: `subscription Watch($after: Cursor) {
    deliveryAttempted(after: $after) { cursor skipped attempt { id outcome delivery { event { type data } } } }
  }`,
  variables: {},
};

clients[transport]().subscribe(request, {
  next({ data, errors }) {
    if (errors) return tell({ errors });
    const { cursor, skipped, attempt } = data.deliveryAttempted;
    request.variables.after = cursor;
    tell({ skipped, ...attempt });
  },
  error: (error) => tell({ failed: String(error?.message ?? JSON.stringify(error)) }),
  complete: () => tell({ completed: true }),
});
