// GraphiQL for Hookline: the key bar, the tabs and the fetcher. Plain script, no build step.
//
// The API key is sent once, in exchange for a session, and then forgotten. The session is a cookie that no script
// can read; the browser sends it along, so a reload finds the visitor still signed in.
"use strict";

(() => {
  const { createElement: h } = React;
  const here = document.currentScript.src;
  const endpoint = new URL(location.pathname, location.href);
  const sessions = new URL("session", endpoint);

  const ui = Object.fromEntries(
    ["graphiql", "key", "key-form", "key-state", "key-entry", "sign-out"].map((id) => [id, document.getElementById(id)]),
  );

  // ── the session ────────────────────────────────────────────────────────────────────────────────────

  let signedIn = false;
  let latest = 0; // of the attempts to sign in: what an earlier one is answered means nothing any more

  const MISSING = "Enter an API key to begin.";
  const WHERE = "`make run` prints one, and `./hookline keys create` makes more.";
  const REFUSED = "This key was refused: mistyped, expired or revoked.";
  const OVER = "The session is over: enter the API key again.";
  const NOT_ENDED = "The server does not answer: the session goes on.";
  const NOT_KEPT = "This browser keeps no session here: use https, or http on this very machine.";

  function say(state, text) {
    ui["key-state"].dataset.state = state;
    ui["key-state"].textContent = text;
    ui["key-state"].title = text;
  }

  async function signIn(token) {
    const mine = ++latest;
    say("none", "Checking the key …");
    const begun = await call("POST", { authorization: `Bearer ${token.trim()}` });
    const kept = begun?.ok ? await call("GET") : null;
    if (mine !== latest) return;
    if (kept?.ok) await enter(kept);
    else if (!begun) leave("bad", "The server does not answer.");
    else if (begun.status === 401) leave("bad", REFUSED);
    else leave("bad", begun.ok ? NOT_KEPT : (await begun.json()).error.message);
  }

  async function resume() {
    const mine = ++latest;
    const known = await call("GET");
    if (mine !== latest) return;
    if (known?.ok) await enter(known);
    else {
      say("none", MISSING); // and nothing else: somebody may be typing a key by now
      ui.key.focus();
    }
  }

  async function signOut() {
    const ended = await call("DELETE");
    if (ended?.ok) leave("none", MISSING);
    else say("bad", NOT_ENDED);
  }

  const call = (method, headers = {}) =>
    fetch(sessions, { method, headers, credentials: "same-origin", cache: "no-store" }).catch(() => null);

  async function enter(response) {
    const { organization, api_key: key } = await response.json();
    become(true);
    say("good", `${organization.name} · ${key.name}`);
  }

  function leave(state, text) {
    become(false);
    say(state, text);
    ui.key.focus();
  }

  function become(state) {
    signedIn = state;
    ui.key.value = "";
    ui["key-entry"].hidden = signedIn;
    ui["sign-out"].hidden = !signedIn;
    show();
  }

  // `/graphql#key=…`, as `make run` prints it. A browser sends no fragment to the server; here it is read
  // once and taken out of the address bar.
  function keyFromAddress() {
    const token = new URLSearchParams(location.hash.slice(1)).get("key");
    if (token !== null) history.replaceState(null, "", location.pathname + location.search);
    return token;
  }

  // ── requests ───────────────────────────────────────────────────────────────────────────────────────

  const HEADERS = {
    "content-type": "application/json",
    accept: "application/graphql-response+json, application/json;q=0.9",
  };

  const problem = (message, status = 200) => Response.json({ errors: [{ message }] }, { status });

  // `fetch`, except that what is not a GraphQL answer becomes one, in words that say what to do.
  async function ask(url, options) {
    if (!signedIn) return problem(`${MISSING} ${WHERE}`);
    let response;
    try {
      response = await fetch(url, { ...options, credentials: "same-origin", cache: "no-store" });
    } catch {
      say("bad", "The server does not answer.");
      return problem(`${endpoint} does not answer. Is the server running?`);
    }
    if (response.status === 401) {
      leave("bad", OVER);
      return problem(OVER, 401);
    }
    if (!/json/.test(response.headers.get("content-type") ?? "")) {
      return problem(`The server answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
    }
    return response;
  }

  // A new fetcher for each session: GraphiQL reads the schema anew when it is given another fetcher.
  // Subscriptions speak graphql-transport-ws at the same address; the session goes with the handshake.
  function fetcher() {
    const socket = new URL(endpoint);
    socket.protocol = endpoint.protocol.replace("http", "ws");
    return GraphiQL.createFetcher({
      url: endpoint.href,
      fetch: ask,
      headers: HEADERS,
      enableIncrementalDelivery: false,
      subscriptionUrl: socket.href,
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
        fetcher: fetcher(),
        schema: signedIn ? undefined : null, // null: do not ask for the schema yet
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
      signIn(ui.key.value);
    });
    ui["sign-out"].addEventListener("click", signOut);
    window.addEventListener("hashchange", () => {
      const token = keyFromAddress();
      if (token) signIn(token);
    });
    show();
    const token = keyFromAddress();
    if (token) signIn(token);
    else resume();
  }

  start();
})();
