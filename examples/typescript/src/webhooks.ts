// What the page does: list webhooks, register one, publish an event, watch what becomes of it.

import { type ApolloClient, CombinedGraphQLErrors, type ObservableQuery } from "@apollo/client";
import { defer, map, type Observable, retry, timer } from "rxjs";
import {
  AttemptsDocument,
  type AttemptsSubscription,
  CreateWebhookDocument,
  type CreateWebhookInput,
  type CreateWebhookMutation,
  PublishEventDocument,
  type PublishEventInput,
  type PublishEventMutation,
  WebhooksDocument,
  type WebhooksQuery,
  type WebhooksQueryVariables,
} from "./generated.js";

const PAGE_SIZE = 20;
const AGAIN_AFTER_MS = 1000;
const REFUSED = "Socket closed with event 4403"; // Forbidden in graphql-transport-ws; Apollo has it in the message alone

export type WebhookList = ObservableQuery<WebhooksQuery, WebhooksQueryVariables>;
export type Attempt = AttemptsSubscription["deliveryAttempted"]["attempt"];
export type CreateWebhookResult = CreateWebhookMutation["createWebhook"];
export type PublishEventResult = PublishEventMutation["publishEvent"];
export type Refusal = Exclude<
  CreateWebhookResult | PublishEventResult,
  { __typename: "CreateWebhookPayload" | "PublishEventPayload" }
>;

/** The latest webhooks: one page of them, until `showMore`. Subscribe to it; it follows the cache. */
export function webhookList(client: ApolloClient): WebhookList {
  return client.watchQuery({ query: WebhooksDocument, variables: { first: PAGE_SIZE } });
}

/** Appends the next page to the list. False: there was none. */
export async function showMore(client: ApolloClient, list: WebhookList): Promise<boolean> {
  // The cache knows at once what a list is told a moment later.
  const page = client.readQuery({ query: list.query, variables: list.variables })?.webhooks?.pageInfo;
  if (!page?.hasNextPage) return false;
  await list.fetchMore({ variables: { after: page.endCursor } });
  return true;
}

/** Registers a webhook. Whoever watches the list then gets its first page anew, with the webhook at the top. */
export async function createWebhook(client: ApolloClient, input: CreateWebhookInput): Promise<CreateWebhookResult> {
  const { data } = await client.mutate({
    mutation: CreateWebhookDocument,
    variables: { input },
    update: (cache, { data }) => {
      if (data?.createWebhook.__typename === "CreateWebhookPayload") cache.evict({ fieldName: "webhooks" });
    },
  });
  return answered(data).createWebhook;
}

/** Publishes an event. With an `idempotencyKey` it can be tried again when the answer was lost. */
export async function publishEvent(client: ApolloClient, input: PublishEventInput): Promise<PublishEventResult> {
  const { data } = await client.mutate({ mutation: PublishEventDocument, variables: { input } });
  return answered(data).publishEvent;
}

/** What to show beside the form. A refusal that the schema gets in addition breaks the build here. */
export function explain(refusal: Refusal): string {
  switch (refusal.__typename) {
    case "ValidationFailed":
      return refusal.fields.map(({ path, message }) => `${path.join(".")}: ${message}`).join("\n");
    case "LimitExceeded":
      return `There are ${refusal.limit} webhooks already, as many as there may be.`;
    case "RateLimited":
      return `Too many at once; try again in ${Math.ceil(refusal.retryAfterSeconds)} s.`;
    case "IdempotencyConflict":
      return "This key was used for something else.";
    case "Forbidden":
      return `The API key lacks ${refusal.requiredScopes.join(" and ")}.`;
    default:
      return unknown(refusal);
  }
}

/**
 * Every attempt from now on, each once. After a cut it comes back with the last cursor, and so misses nothing.
 *
 * `onCut` is told why it was cut. An answer that would be the same again, such as that of a revoked key, is an error.
 */
export function attempts(client: ApolloClient, onCut: (reason: Error) => void): Observable<Attempt> {
  return defer(() => {
    let after: string | undefined;
    return defer(() => client.subscribe({ query: AttemptsDocument, variables: { after } })).pipe(
      map(({ data, error }) => {
        if (error) throw error;
        const { cursor, skipped, attempt } = answered(data).deliveryAttempted;
        if (skipped > 0 && after) throw new Error(`too slow by ${skipped}`); // they are read again behind `after`
        after = cursor;
        return attempt;
      }),
      retry({
        delay: (reason: Error) => {
          if (CombinedGraphQLErrors.is(reason) || reason.message.startsWith(REFUSED)) throw reason;
          onCut(reason);
          return timer(AGAIN_AFTER_MS * (0.5 + Math.random())); // not all of a server's pages in the same moment
        },
      }),
    );
  });
}

function answered<Data>(data: Data | null | undefined): Data {
  if (!data) throw new Error("The server answered without data.");
  return data;
}

/** A refusal that a newer server makes, and this build does not know: each is a UserError and has a message. */
function unknown(refusal: never): string {
  return (refusal as Refusal).message;
}
