// The page's functions as commands, because a terminal is everywhere. What is Node's own is in here.

import { concatMap, distinctUntilChanged, filter, firstValueFrom, map, tap } from "rxjs";
import { WebSocket } from "ws";
import { connect } from "./hookline.js";
import { attempts, createWebhook, explain, publishEvent, type Refusal, showMore, webhookList } from "./webhooks.js";

// Browsers have it, and Node from 22 on.
globalThis.WebSocket ??= WebSocket as unknown as typeof globalThis.WebSocket;

const { HOOKLINE_URL = "http://127.0.0.1:8000", HOOKLINE_API_KEY } = process.env;
const client = connect(HOOKLINE_URL, HOOKLINE_API_KEY);

/** Shows the list as it grows, page by page, and then the whole of it. */
async function list(): Promise<void> {
  const list = webhookList(client);
  const states = list.pipe(
    filter(({ loading }) => !loading),
    map(({ dataState, data, error }) => {
      if (dataState !== "complete" || !data.webhooks) throw error;
      return data.webhooks;
    }),
    distinctUntilChanged(),
    tap(({ edges, totalCount }) => console.log(`${edges.length} of ${totalCount}`)),
    concatMap(async (webhooks) => ({ webhooks, isWhole: !(await showMore(client, list)) })),
    filter(({ isWhole }) => isWhole),
  );
  const { webhooks } = await firstValueFrom(states);
  for (const { node } of webhooks.edges) {
    const { succeeded, retrying, deadLettered } = node.stats?.deliveries ?? { succeeded: 0, retrying: 0, deadLettered: 0 };
    const figures = `${succeeded} delivered, ${retrying} to be tried again, ${deadLettered} given up`;
    console.log(`${node.id} ${node.status} ${node.eventPatterns.join(" ")} ${node.url}: ${figures}`);
  }
}

async function create(url: string, ...eventPatterns: string[]): Promise<void> {
  const result = await createWebhook(client, { url, eventPatterns });
  if (result.__typename !== "CreateWebhookPayload") return refused(result);
  console.log(`${result.webhook.id} ${result.secret}`);
}

async function publish(type: string, data: string): Promise<void> {
  const result = await publishEvent(client, { type, data: JSON.parse(data) });
  if (result.__typename !== "PublishEventPayload") return refused(result);
  console.log(`${result.event.id} goes to ${result.matchedWebhookCount}`);
}

/** Prints until it is interrupted. */
async function watch(): Promise<void> {
  const onCut = (reason: Error) => console.error(`Cut off (${reason.message.trim()}), coming back`);
  await attempts(client, onCut).forEach(({ outcome, delivery: { event, webhook } }) => {
    const data = JSON.stringify(event?.data)?.slice(0, 60);
    console.log(`${outcome} ${event?.type} ${data} to ${webhook?.url}`);
  });
}

function refused(refusal: Refusal): void {
  console.error(explain(refusal));
  process.exitCode = 1;
}

const [command, first, second, ...others] = process.argv.slice(2);
try {
  if (command === "list") await list();
  else if (command === "create" && first && second) await create(first, second, ...others);
  else if (command === "publish" && first && second) await publish(first, second);
  else if (command === "watch") await watch();
  else throw new Error("npm start -- list | create URL PATTERN… | publish TYPE JSON | watch");
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
