"""The GraphiQL page: what is served, and what a person in a browser gets of it."""

import asyncio
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate
from graphql.execution.values import get_variable_values
from playwright.async_api import Browser, Page, Route, async_playwright
from starlette.applications import Starlette
from starlette.routing import Route as Served

from app.graphiql import Tab, graphiql_page, static_routes, tabs
from resolvers.caller import ORDINARY, Scope
from tests.journeys.product import Product, dev, until
from tests.receivers import Receiver
from tests.services import missing

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "app" / "graphiql" / "static"
OURS = {"hookline.js", "hookline.css"}
TABS = pytest.mark.parametrize(
    "tab", tabs(), ids=["who am I", "create", "publish", "watch", "failing", "preview", "check a signature"]
)


# ── what is served ──


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    served = Starlette(routes=[*static_routes(), Served("/graphql", graphiql_page)])
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://hookline") as client:
        yield client


async def addresses(client: httpx.AsyncClient) -> list[str]:
    """Everything the page refers to."""
    return re.findall(r'(?:src|href)="([^"]+)"', (await client.get("/graphql")).text)


async def test_the_page_and_our_own_files_name_no_outside_address(client: httpx.AsyncClient) -> None:
    texts = [(await client.get("/graphql")).text, *[(STATIC / name).read_text() for name in OURS]]
    assert [re.findall(r"https?://|//[a-z]|unpkg", text) for text in texts] == [[], [], []]


def test_the_style_sheets_load_nothing_but_what_they_carry() -> None:
    sheets = [path.read_text() for path in STATIC.glob("*.css")]
    assert len(sheets) == 3
    loaded = [url for sheet in sheets for url in re.findall(r"@import|url\(\s*[\"']?(.{5})", sheet)]
    assert set(loaded) == {"data:"}


async def test_the_page_has_no_inline_script_or_style(client: httpx.AsyncClient) -> None:
    html = (await client.get("/graphql")).text
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:", html) == []


async def test_the_page_carries_its_content_security_policy(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/graphql")).headers["content-security-policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", "script-src 'self'"]
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in " ".join(policy)


async def test_everything_the_page_refers_to_is_there(client: httpx.AsyncClient) -> None:
    referred = await addresses(client)
    answers = [await client.get(address) for address in referred]
    assert {answer.status_code for answer in answers} == {200}
    kinds = {
        Path(address).suffix: answer.headers["content-type"] for address, answer in zip(referred, answers, strict=True)
    }
    assert kinds == {
        ".svg": "image/svg+xml",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
    }


async def test_a_file_travels_zipped_and_is_kept_for_ever(client: httpx.AsyncClient) -> None:
    [address] = [address for address in await addresses(client) if address.endswith("graphiql.min.js")]
    async with client.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert gzip.decompress(raw) == (STATIC / "graphiql.min.js").read_bytes()
    assert len(raw) < 400_000


async def test_a_file_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    address = (await addresses(client))[0]
    etag = (await client.get(address)).headers["etag"]
    again = await client.get(address, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_file_of_another_edition_is_not_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/graphql/static/0000000000000000/hookline.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["nothing.js", "README.md", "..%2F__init__.py", "%2Fetc%2Fpasswd"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/graphql/static/0000000000000000/{name}")).status_code == 404


def test_each_vendored_file_has_the_digest_its_table_says() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (STATIC / "README.md").read_text(), re.MULTILINE)
    files = [path for path in STATIC.iterdir() if path.suffix in {".js", ".css"} and path.name not in OURS]
    assert dict(rows) == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ── the tabs ──


@TABS
def test_a_tab_is_valid_against_the_schema(tab: Tab) -> None:
    schema = build_schema((ROOT / "schema" / "schema.graphql").read_text())
    document = parse(tab.document)
    assert validate(schema, document) == []
    [operation] = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    variables = get_variable_values(schema, operation.variable_definitions or (), tab.variables or {})
    assert not isinstance(variables, list), variables


@TABS
def test_a_tab_explains_itself_in_lines_that_fit(tab: Tab) -> None:
    lines = tab.document.splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 56


# ── in a browser ──

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

RECORD_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""

RESULT = "document.querySelector('.graphiql-response .CodeMirror')?.CodeMirror.getValue()"
VARIABLES = "document.querySelector('.graphiql-editor-tool .CodeMirror').CodeMirror"
SHOWN_OPERATION = "document.querySelector('.graphiql-query-editor .CodeMirror')?.CodeMirror.operationName"


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        missing("Chromium", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    async with dev(tmp_path_factory.mktemp("dev")) as product:
        yield product


@dataclass
class Visit:
    """A person before the page."""

    page: Page
    url: str
    outside: list[str] = field(default_factory=list)
    """Addresses beyond this machine that the browser was kept from asking."""

    async def open(self, fragment: str = "") -> None:
        await self.page.goto(self.url + fragment)
        await self.until(f"{RESULT} === ''")

    async def enter(self, key: str) -> str:
        """Uses the key, and returns what the page says of it."""
        await self.page.fill("#key", key)
        await self.page.click("#use-key")
        return await self.told()

    async def told(self) -> str:
        """What the page says of the key, once it knows."""
        state = self.page.locator("#key-state:is([data-state=good], [data-state=bad])")
        return await state.inner_text()

    async def run(self, operation: str, variables: object = None) -> dict[str, Any]:
        """Goes to a tab, presses the button, and returns the result. `variables`: instead of those that are there."""
        await self.start(operation, variables)
        await self.until(f"Boolean({RESULT})")
        result: dict[str, Any] = json.loads(await self.page.evaluate(RESULT))
        return result

    async def start(self, operation: str, variables: object = None) -> None:
        """Goes to a tab and presses the button."""
        await self.page.get_by_title(operation, exact=True).click()
        await self.until(f"{SHOWN_OPERATION} === '{operation}'")
        if variables is not None:
            await self.page.evaluate(f"{VARIABLES}.setValue({json.dumps(json.dumps(variables, indent=2))})")
        await self.page.click(".graphiql-execute-button")

    async def until(self, condition: str) -> None:
        """Waits for a condition in the page. (Playwright's own way to wait is `eval`, which the policy forbids.)"""
        await until(lambda: self.page.evaluate(condition), True)

    async def violations(self) -> list[str]:
        """Which directives of the policy something ran against."""
        return list(await self.page.evaluate("violations"))


@pytest.fixture
async def visit(chromium: Browser, product: Product) -> AsyncIterator[Visit]:
    context = await chromium.new_context(viewport={"width": 1280, "height": 800})
    await context.add_init_script(RECORD_VIOLATIONS)
    visit = Visit(await context.new_page(), f"{product.origin}/graphql")

    async def keep_inside(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            await route.continue_()
        else:
            visit.outside.append(route.request.url)
            await route.abort()

    await context.route("**/*", keep_inside)
    yield visit
    await context.close()


async def test_a_newcomer_creates_a_webhook_and_publishes_to_it(visit: Visit, product: Product) -> None:
    await visit.open()
    await visit.enter(product.token)
    created = (await visit.run("CreateWebhook"))["data"]["createWebhook"]
    assert re.fullmatch(r"whk_[0-9a-hjkmnp-tv-z]{26}", created["webhook"]["id"])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,}={0,2}", created["secret"])
    artifacts = ROOT / "test-artifacts"
    artifacts.mkdir(exist_ok=True)
    await visit.page.screenshot(path=artifacts / "graphiql-create.png")
    published = (await visit.run("PublishEvent"))["data"]["publishEvent"]
    assert published["matchedWebhookCount"] == 1
    await visit.page.screenshot(path=artifacts / "graphiql-publish.png")


async def test_a_late_answer_about_the_session_neither_wipes_a_key_nor_signs_anybody_out(
    visit: Visit, product: Product
) -> None:
    """The page asks whose its session is as it opens; by the time it hears, a person may have been quicker."""
    release = [asyncio.Event(), asyncio.Event()]
    held, told = iter(release), asyncio.Event()

    async def late(route: Route) -> None:
        if route.request.method == "GET" and (gate := next(held, None)) is not None:
            answer = await route.fetch()
            await gate.wait()
            await route.fulfill(response=answer)
            if gate is release[-1]:
                told.set()
        else:
            await route.continue_()

    await visit.page.route("**/session", late)
    await visit.open()
    await visit.page.fill("#key", product.token)
    release[0].set()
    await visit.until("document.getElementById('key-state').textContent.startsWith('Enter')")
    assert await visit.page.input_value("#key") == product.token
    await visit.page.reload()
    await visit.until(f"{RESULT} === ''")
    assert await visit.enter(product.token) == "Demo · dev"
    release[1].set()
    await told.wait()
    assert await visit.page.evaluate("fetch('/session').then((answer) => answer.status)") == 200  # and heard by now
    assert await visit.told() == "Demo · dev"


OPERATIONS = ("WhoAmI", "CreateWebhook", "PublishEvent", "FailingWebhooks", "PreviewDelivery", "CheckSignature")


async def test_every_tab_gets_an_answer_without_errors(visit: Visit, product: Product) -> None:
    await visit.open()
    await visit.enter(product.token)
    answers = [await visit.run(name) for name in OPERATIONS]
    assert [sorted(answer) for answer in answers] == [["data"]] * (len(tabs()) - 1)  # WatchAttempts waits


async def test_in_one_window_a_webhook_is_made_and_in_another_its_attempt_appears(
    visit: Visit, product: Product
) -> None:
    await visit.open()
    await visit.enter(product.token)
    watching = Visit(await visit.page.context.new_page(), visit.url)
    await watching.open()
    assert await watching.told() == "Demo · dev"  # the session is the browser's, not the window's
    async with Receiver(503) as receiver:
        wanted = {"url": receiver.url, "name": "Watched", "eventPatterns": ["watched.*"]}
        created = await visit.run("CreateWebhook", {"input": wanted})
        assert created["data"]["createWebhook"]["webhook"]["status"] == "ENABLED"
        await watching.start("WatchAttempts")

        async def something_appears() -> bool:
            published = await visit.run("PublishEvent", {"input": {"type": "watched.event", "data": {}}})
            assert published["data"]["publishEvent"]["matchedWebhookCount"] == 1
            return bool(await watching.page.evaluate(f"Boolean({RESULT})"))

        await until(something_appears, True)
        seen = json.loads(await watching.page.evaluate(RESULT))["data"]["deliveryAttempted"]["attempt"]
        assert await watching.page.is_visible(".graphiql-execute-button[aria-label^='Stop']")
    await watching.page.screenshot(path=ROOT / "test-artifacts" / "graphiql-watch.png")
    assert (seen["outcome"], seen["response"]["statusCode"]) == ("HTTP_ERROR", 503)
    assert seen["delivery"]["webhook"] == {"name": "Watched", "url": receiver.url}
    assert await visit.violations() == await watching.violations() == []


async def test_who_signs_out_watches_no_more(visit: Visit, product: Product) -> None:
    await visit.open(f"#key={product.token}")
    await visit.told()
    await visit.start("WatchAttempts")
    await visit.page.wait_for_selector(".graphiql-execute-button[aria-label^='Stop']")
    await visit.page.click("#sign-out")
    await visit.until(f"({RESULT} ?? '').includes('this session is over')")


async def test_a_visit_asks_nobody_outside_and_leaves_nothing_behind(visit: Visit, product: Product) -> None:
    await visit.open()
    await visit.enter(product.token)
    await visit.run("WhoAmI")
    await visit.page.click("[aria-label='Show GraphiQL Explorer']")
    await visit.page.click("[aria-label='Open settings dialog']")
    await visit.page.get_by_role("button", name="Dark").click()
    assert visit.outside == []
    assert await visit.violations() == []
    assert await visit.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


async def test_the_policy_stops_what_is_planted(visit: Visit) -> None:
    await visit.open()
    await visit.page.evaluate("""() => {
        const planted = document.createElement("script");
        planted.textContent = "window.planted = true";
        document.body.append(planted);
    }""")
    assert await visit.page.evaluate("window.planted") is None
    assert await visit.violations() == ["script-src-elem"]


async def test_without_a_key_the_page_says_what_to_do(visit: Visit) -> None:
    await visit.open()
    [error] = (await visit.run("WhoAmI"))["errors"]
    assert error["message"].startswith("Enter an API key to begin.")


async def test_a_refused_key_is_said_so_and_not_kept(visit: Visit) -> None:
    await visit.open()
    assert await visit.enter("mistyped") == "This key was refused: mistyped, expired or revoked."
    assert await visit.page.is_hidden("#sign-out")


async def test_a_key_in_the_address_is_used_and_taken_out_of_it(visit: Visit, product: Product) -> None:
    await visit.open(f"#key={product.token}")
    scopes = (await visit.run("WhoAmI"))["data"]["viewer"]["scopes"]
    assert scopes == [str(scope) for scope in Scope if scope in ORDINARY]
    assert visit.page.url == visit.url


async def test_after_a_reload_the_visitor_is_still_signed_in_and_the_page_knows_no_key(
    visit: Visit, product: Product
) -> None:
    await visit.open()
    await visit.enter(product.token)
    await visit.open()
    assert await visit.told() == "Demo · dev"
    assert "data" in await visit.run("WhoAmI")
    [cookie] = await visit.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("hookline_session", True, "Strict")
    assert product.token not in cookie["value"]
    assert product.token not in await visit.page.evaluate("document.documentElement.outerHTML")
    artifacts = ROOT / "test-artifacts"
    artifacts.mkdir(exist_ok=True)
    await visit.page.screenshot(path=artifacts / "graphiql-session.png")


async def test_who_signs_out_is_asked_for_a_key_again(visit: Visit, product: Product) -> None:
    await visit.open(f"#key={product.token}")
    await visit.told()
    await visit.page.click("#sign-out")
    await visit.page.wait_for_selector("#key:visible")
    assert "errors" in await visit.run("WhoAmI")
    assert await visit.page.context.cookies() == []


async def test_a_session_that_is_over_is_said_so(visit: Visit, product: Product) -> None:
    await visit.open(f"#key={product.token}")
    await visit.told()
    await visit.page.context.clear_cookies()
    assert "errors" in await visit.run("WhoAmI")
    assert await visit.told() == "The session is over: enter the API key again."
    assert await visit.page.is_visible("#key")


async def test_a_page_of_another_port_of_this_machine_changes_nothing_with_the_session(
    visit: Visit, product: Product
) -> None:
    """Cookies know no ports: the browser sends the session along."""
    await visit.open(f"#key={product.token}")
    await visit.told()
    page = await visit.page.context.new_page()
    neighbour = "http://127.0.0.1:1/"
    await page.context.route(
        neighbour, lambda route: route.fulfill(body="<h1>neighbour</h1>", content_type="text/html")
    )
    await page.goto(neighbour)
    form = """(action) => {
        const form = document.createElement("form");
        Object.assign(form, { action, method: "post", enctype: "text/plain" });
        document.body.append(form);
        form.submit();
    }"""
    async with page.expect_navigation() as navigation:
        await page.evaluate(form, visit.url)
    answer = await (await navigation.value).body()
    assert json.loads(answer)["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_only_mistakes_in_the_variables_are_underlined(visit: Visit, product: Product) -> None:
    await visit.open()
    await visit.enter(product.token)
    await visit.run("PublishEvent")
    given = {"input": {"type": "invoice.paid", "data": {"any": ["JSON", {"at": "all"}]}, "tpye": ""}}
    await visit.page.evaluate(f"{VARIABLES}.setValue({json.dumps(given)!r})")
    underlined = f"{VARIABLES}.state.lint.marked.map((mark) => mark.__annotation.message)"
    await until(lambda: visit.page.evaluate(underlined), ['Type "PublishEventInput" does not have a field "tpye".'])
