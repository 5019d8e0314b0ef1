// Runs the official audit of GraphQL over HTTP against an address: node audit.mjs <url> <key>
// Prints a line of JSON with the name, the status and the reason of each of its checks.
import { serverAudits } from "graphql-http";

const [url, key] = process.argv.slice(2);
const authorized = (address, options = {}) =>
  fetch(address, { ...options, headers: { ...options.headers, authorization: `Bearer ${key}` } });

const results = [];
for (const audit of serverAudits({ url, fetchFn: authorized })) {
  const { name, status, reason = "" } = await audit.fn();
  results.push({ name, status, reason });
}
console.log(JSON.stringify(results));
