// GraphiQL for Hookline: the key bar, the tabs and the fetcher. Plain script, no build step.
//
// The API key lives in this closure and nowhere else: not in the address, not in a cookie, not in the
// browser's storage. Reload the page, and it is gone.
"use strict";

(() => {
  const { createElement: h } = React;
  const here = document.currentScript.src;
  const endpoint = new URL(location.pathname, location.href);

  const ui = Object.fromEntries(
    ["graphiql", "key", "key-form", "key-state", "forget-key"].map((id) => [id, document.getElementById(id)]),
  );

  // ── the key ────────────────────────────────────────────────────────────────────────────────────────

  let key = "";

  const MISSING = "Enter an API key to begin.";
  const WHERE = "`make run` prints one, and `./hookline keys create` makes more.";
  const REFUSED = "This key was refused: mistyped, expired or revoked.";

  function say(state, text) {
    ui["key-state"].dataset.state = state;
    ui["key-state"].textContent = text;
    ui["key-state"].title = text;
  }

  // Takes up a key, or with "" lays it down. Asks at once whose it is, so that a typing mistake shows
  // here and not at the first run; a key that is refused is not kept.
  async function use(token) {
    hold(token.trim());
    say("none", key ? "Checking the key …" : MISSING);
    if (key) {
      const mine = key;
      const { data, refused } = await introduce();
      if (mine !== key) return;
      if (refused) hold("");
      else if (data?.viewer) say("good", `${data.viewer.organization.name} · ${data.viewer.apiKey.name}`);
      else say("good", "Key in use");
    }
    show();
    if (!key) ui.key.focus();
  }

  function hold(token) {
    key = token;
    ui.key.value = "";
    ui.key.required = !key;
    ui.key.placeholder = key ? "•••••••• in use" : "Paste your key";
    ui["forget-key"].hidden = !key;
  }

  async function introduce() {
    const query = "query Introduce { viewer { organization { name } apiKey { name } } }";
    const body = JSON.stringify({ query });
    const response = await ask(endpoint, { method: "POST", headers: headersFor(key), body });
    return { ...(await response.json()), refused: response.status === 401 };
  }

  // `/graphql#key=…`, as `make run` prints it. A browser sends no fragment to the server; here it is read
  // once and taken out of the address bar.
  function keyFromAddress() {
    const token = new URLSearchParams(location.hash.slice(1)).get("key");
    if (token !== null) history.replaceState(null, "", location.pathname + location.search);
    return token;
  }

  // ── requests ───────────────────────────────────────────────────────────────────────────────────────

  const headersFor = (token) => ({
    "content-type": "application/json",
    accept: "application/graphql-response+json, application/json;q=0.9",
    authorization: `Bearer ${token}`,
  });

  const problem = (message, status = 200) => Response.json({ errors: [{ message }] }, { status });

  // `fetch`, except that what is not a GraphQL answer becomes one, in words that say what to do.
  async function ask(url, options) {
    if (!key) return problem(`${MISSING} ${WHERE}`);
    let response;
    try {
      response = await fetch(url, { ...options, credentials: "omit", cache: "no-store" });
    } catch {
      say("bad", "The server does not answer.");
      return problem(`${endpoint} does not answer. Is the server running?`);
    }
    if (response.status === 401) {
      say("bad", REFUSED);
      return problem(`${REFUSED} Enter another one in the bar at the top. ${WHERE}`, 401);
    }
    if (!/json/.test(response.headers.get("content-type") ?? "")) {
      return problem(`The server answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
    }
    return response;
  }

  // One fetcher for each key: GraphiQL reads the schema anew when it is given another fetcher.
  // Subscriptions speak graphql-transport-ws at the same address; a browser can set no header there, so
  // the key travels in `connection_init`.
  function fetcherFor(token) {
    const socket = new URL(endpoint);
    socket.protocol = endpoint.protocol.replace("http", "ws");
    return GraphiQL.createFetcher({
      url: endpoint.href,
      fetch: ask,
      headers: headersFor(token),
      enableIncrementalDelivery: false,
      subscriptionUrl: socket.href,
      wsConnectionParams: { authorization: `Bearer ${token}` },
    });
  }

  // ── GraphiQL ───────────────────────────────────────────────────────────────────────────────────────

  // What GraphiQL would keep in localStorage (tabs, history, theme) it keeps here until the page is left.
  function memoryStorage() {
    const kept = new Map();
    return {
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => void kept.set(name, value),
      removeItem: (name) => void kept.delete(name),
      clear: () => kept.clear(),
      get length() {
        return kept.size;
      },
    };
  }

  // GraphiQL underlines every object given for a custom scalar. Ours, JSON, takes any value, so its check of the
  // variables is told to let that pass; the way to it leads through an editor.
  let patient = false;
  function letJsonBeAnything() {
    const editor = document.querySelector(".CodeMirror")?.CodeMirror;
    if (patient || !editor) return;
    const checks = editor.constructor.lint;
    const check = checks["graphql-variables"];
    checks["graphql-variables"] = (...given) =>
      check(...given).filter(({ message }) => message !== 'Expected value of type "JSON".');
    patient = true;
  }

  const root = ReactDOM.createRoot(ui.graphiql);
  const storage = memoryStorage();
  const plugins = [GraphiQLPluginExplorer.explorerPlugin({ showAttribution: false })];
  let tabs = [];

  function show() {
    const page = h(
      GraphiQL,
      {
        fetcher: fetcherFor(key),
        schema: key ? undefined : null, // null: do not ask for the schema yet
        defaultTabs: tabs,
        defaultQuery: "",
        defaultEditorToolsVisibility: "variables",
        inputValueDeprecation: true,
        schemaDescription: true,
        onSchemaChange: letJsonBeAnything,
        shouldPersistHeaders: false,
        storage,
        plugins,
      },
      h(GraphiQL.Logo, null, "GraphiQL"),
    );
    root.render(page);
  }

  async function start() {
    const response = await fetch(new URL("tabs.json", here));
    tabs = (await response.json()).map(({ query, variables }) => ({
      query,
      variables: variables && JSON.stringify(variables, null, 2),
    }));
    ui["key-form"].addEventListener("submit", (event) => {
      event.preventDefault();
      use(ui.key.value);
    });
    ui["forget-key"].addEventListener("click", () => use(""));
    window.addEventListener("hashchange", () => {
      const token = keyFromAddress();
      if (token) use(token);
    });
    show();
    use(keyFromAddress() ?? "");
  }

  start();
})();
