// An Apollo Client for Hookline, as a page needs it once.

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { relayStylePagination } from "@apollo/client/utilities";
import { OperationTypeNode } from "graphql";
import { createClient } from "graphql-ws";
import schema from "./generated.js";

/**
 * A client for the Hookline at an address such as `https://hooks.example.com`.
 *
 * A page without a key has a session (`POST /session`): its cookie goes along by itself.
 */
export function connect(address: string, key?: string): ApolloClient {
  const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const http = new HttpLink({ uri: `${address}/graphql`, headers: authorization, credentials: "include" });
  const live = createClient({
    url: `${address.replace(/^http/, "ws")}/graphql`,
    connectionParams: authorization,
    retryAttempts: 0, // whoever watches comes back with the cursor; this one would begin anew, and miss what was between
  });
  return new ApolloClient({
    link: ApolloLink.split(
      ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
      new GraphQLWsLink(live),
      http,
    ),
    cache: new InMemoryCache({
      possibleTypes: schema.possibleTypes, // for `... on UserError`
      typePolicies: {
        // What is named makes another list; `first`, `after`, `last` and `before` make another page of the same one.
        Query: {
          fields: {
            webhooks: relayStylePagination(["filter", "orderBy"]),
            deliveries: relayStylePagination(["filter"]),
            events: relayStylePagination(["types", "received"]),
          },
        },
        Webhook: { fields: { deliveries: relayStylePagination(["filter"]) } },
        Event: { fields: { deliveries: relayStylePagination() } },
      },
    }),
  });
}
