// Pages through lists with the Apollo Client of examples/typescript, forwards and backwards, as its own fetchMore and
// relayStylePagination do it, and prints what it saw as JSON: node pages.mjs ORIGIN TOKEN

import { createRequire } from "node:module";

const example = new URL("../../examples/typescript/", import.meta.url);
const { connect } = await import(new URL("dist/hookline.js", example));
const { createWebhook, showMore, webhookList } = await import(new URL("dist/webhooks.js", example));
const require = createRequire(example);
const { gql } = require("@apollo/client");
globalThis.WebSocket ??= require("ws");

const [origin, token] = process.argv.slice(2);
const PAGE = 20;
const MOST_PAGES = 5;

const query = (name) => gql`
  query Pages($first: Int, $after: Cursor, $last: Int, $before: Cursor) {
    ${name}(first: $first, after: $after, last: $last, before: $before) {
      edges { node { id } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }`;

/** Watches a list, as a component does; answers once it is there. */
const shown = (list, isThere = () => true) =>
  new Promise((resolve, reject) => {
    list.subscribe(({ loading, data, error }) => {
      if (error) reject(error);
      else if (!loading && isThere(data)) resolve();
    });
  });
const idsOf = (connection) => connection.edges.map(({ node }) => node.id);

/** What the cache made of the list after each page, and what it holds in the end. */
async function pages(name, size, following) {
  const client = connect(origin, token);
  const list = client.watchQuery({ query: query(name), variables: size });
  await shown(list);
  const states = [];
  for (;;) {
    const connection = client.readQuery({ query: list.query, variables: size })[name];
    const { hasNextPage, hasPreviousPage } = connection.pageInfo;
    states.push({ ids: idsOf(connection), hasNextPage, hasPreviousPage });
    const variables = following(connection.pageInfo);
    if (!variables || states.length > MOST_PAGES) return { states, cached: Object.keys(client.extract()) };
    await list.fetchMore({ variables });
  }
}

/** What the example's own list shows once a webhook is added to it. */
async function adding() {
  const client = connect(origin, token);
  const list = webhookList(client);
  await shown(list);
  while (await showMore(client, list));
  await shown(list, ({ webhooks }) => !webhooks.pageInfo.hasNextPage);
  const before = idsOf(list.getCurrentResult().data.webhooks);
  const { webhook } = await createWebhook(client, { url: "http://127.0.0.1:9/", eventPatterns: ["added"] });
  await shown(list, ({ webhooks }) => webhooks.edges[0].node.id === webhook.id);
  return { before, added: webhook.id, after: idsOf(list.getCurrentResult().data.webhooks) };
}

const told = {};
for (const name of ["webhooks", "events", "deliveries"]) {
  told[name] = {
    forwards: await pages(name, { first: PAGE }, (at) => at.hasNextPage && { after: at.endCursor }),
    backwards: await pages(name, { last: PAGE }, (at) => at.hasPreviousPage && { before: at.startCursor }),
  };
}
process.stdout.write(JSON.stringify({ ...told, adding: await adding() }));
