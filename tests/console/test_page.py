"""The page in a real browser, on a mesh of real processes: loads, lives, shows what is lost, and replays.

Needs a Chromium (`apt install chromium` or `chromium-headless-shell`). Without one these tests are skipped, unless
BROWSER_TESTS is `required`, as in CI.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from headrace.client.client import HeadraceClient
from headrace.contract.values import OutcomeKind
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.console.conftest import TOKEN, Console, running_console
from tests.console.letters import lay_letter
from tests.integration.processes import Processes
from tests.timing import shortest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell"))), None)
REQUIRED = os.environ.get("BROWSER_TESTS") == "required"
LIMIT_MS = 20_000.0
SECRET = "nobody-should-read-this-4711"
"""What is asked; the console shows no content."""
SOON_S = 2.0
"""How soon a loss has to be seen."""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        CHROMIUM is None and not REQUIRED,
        reason="no Chromium: apt install chromium-headless-shell",
    ),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass
class Scene:
    """A mesh, its console, and a browser."""

    mesh: Processes
    console: Console
    browser: Browser
    problems: list[str] = field(default_factory=list)
    """What the browser complained of."""

    @asynccontextmanager
    async def page(self, *, width: int = 1280, dark: bool = False) -> AsyncIterator[Page]:
        """A page that is live; it fails the test where the browser complains."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        page = await context.new_page()
        page.set_default_timeout(LIMIT_MS)
        self.problems.clear()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._asked)
        try:
            await page.goto(self.console.url)
            await expect(page.locator("#link")).to_have_text("live", timeout=LIMIT_MS)
            yield page
            assert self.problems == []
        finally:
            await context.close()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.console.url):
            self.problems.append(f"asked {request.url}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Router, gateway and two workers as processes, a console, and a browser without a screen."""
    assert CHROMIUM is not None, "BROWSER_TESTS is required, and there is no Chromium"
    folder = tmp_path_factory.mktemp("page")
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=0.05))
    environment = {"HEADRACE_WORKER_LANES": "2", "HEADRACE_WORKER_MAX_BATCH": "4"}
    names = ("router", "gateway", "worker", "worker-2")
    async with (
        Processes(folder, models=folder / "models", environment=environment, names=names) as mesh,
        running_console(mesh.nats_url) as console,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Scene(mesh, console, browser)
        await browser.close()


async def test_the_page_is_live(scene: Scene) -> None:
    """Workers are there; a request shows as running without a reload, and its tokens as throughput."""
    async with scene.page() as page, HeadraceClient(scene.mesh.address) as client:
        await expect(page.locator("#n-workers")).to_have_text("2")
        await expect(page.locator(".card")).to_have_count(2)
        await expect(page.locator(".card .lane")).to_have_count(0)
        asked = await client.submit(model="fake", prompt="hello", max_tokens=200, ignore_end=True)
        await expect(page.locator("#n-running")).to_have_text("1")
        lane = page.locator(".card .lane")
        await expect(lane).to_have_count(1)
        context = await lane.locator("span").nth(2).text_content()
        await expect(lane.locator("span").nth(2)).not_to_have_text(context or "")  # it grows
        await expect(page.locator("#n-tokens")).not_to_have_text("0")
        await expect(page.locator("#picture")).to_be_visible()
        assert "2 workers" in (await page.locator("#mesh-words").text_content() or "")
        await client.cancel(asked.request_id)
        await expect(page.locator("#n-running")).to_have_text("0")


async def test_a_request_explains_itself(scene: Scene) -> None:
    """Its trace is listed, and opens as a waterfall over gateway, router and worker, without what was asked."""
    async with scene.page() as page, HeadraceClient(scene.mesh.address) as client:
        ended = [event async for event in client.generate(model="fake", prompt="hello", max_tokens=5)]
        request_id = ended[0].request_id  # type: ignore[union-attr]
        await page.locator("#traces").scroll_into_view_if_needed()
        await page.locator(f'[data-trace="{request_id}"]').click()
        waterfall = page.locator("#waterfall")
        await expect(waterfall.locator("h3")).to_contain_text(request_id)
        for process in ("gateway", "router", "worker"):  # a worker's spans may come a moment later
            await expect(waterfall.locator(".span .label small", has_text=process).first).to_be_visible()
        span, details = waterfall.locator(".span").first, waterfall.locator(".detail:visible")
        await expect(details).to_have_count(0)  # a person opens what is of interest
        await span.press("Enter")
        await expect(span).to_have_attribute("aria-expanded", "true")
        await expect(details).to_have_count(1)
        assert SECRET not in await page.content()
        for path in ("/api/state", "/api/traces", f"/api/traces/{request_id}"):
            assert SECRET.encode() not in (await scene.console.ask(path)).body


async def test_a_killed_worker_is_seen_within_two_seconds(scene: Scene) -> None:
    """It turns red in the figures, in its card and in words; when it is back it is one of two again."""
    async with scene.page() as page:
        await expect(page.locator("#n-workers")).to_have_text("2")

        async def seen_after_s() -> float:
            began_s = time.monotonic()
            await scene.mesh.kill("worker-2")
            await page.locator(".card.lost").wait_for()
            took_s = time.monotonic() - began_s
            await expect(page.locator("#n-workers")).to_have_text("1, 1 lost")
            await expect(page.locator(".card.lost h3 small")).to_contain_text("lost")
            await scene.mesh.start("worker-2")
            await expect(page.locator("#n-workers")).to_contain_text("2", timeout=LIMIT_MS)
            return took_s

        assert await shortest(seen_after_s, below_s=SOON_S) < SOON_S


async def test_an_operator_replays_a_dead_letter(scene: Scene) -> None:
    """A letter appears by itself; whoever only looks is asked for the token, and with it the letter goes."""
    async with scene.page() as page:
        nc = scene.console.nats
        await lay_letter(nc)
        row = page.locator("#dead-table tbody tr")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("its worker was lost 5 times")
        number = await row.locator("td").first.text_content()
        await row.get_by_role("button", name=f"Replay letter {number}").click()
        await page.get_by_label("Token", exact=True).fill("a-wrong-token")
        scene.problems.clear()
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.locator("#sign-in-no")).to_contain_text("is not the console's")
        scene.problems.clear()  # the browser writes each refusal down
        await page.get_by_label("Token", exact=True).fill(TOKEN)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.locator("#operator")).to_have_text("Operator")
        await row.get_by_role("button").click()
        await expect(page.locator("#said")).to_contain_text("is asked again as")
        await expect(row).to_have_count(0)
        said = await page.locator("#said").text_content() or ""
        async with HeadraceClient(scene.mesh.address) as client:  # and it was done
            outcome = await client.result(said.split()[-1], tenant="shop", wait_s=20)
        assert outcome.kind is OutcomeKind.COMPLETED


async def test_narrow_dark_and_by_keyboard(scene: Scene) -> None:
    """On a phone nothing is wider than the screen; the theme switches, and the tables sort by key."""
    async with scene.page(width=390, dark=True) as page:
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wide) <= 0
        background = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(background)
        await page.locator("#theme").press("Enter")
        assert await page.evaluate(background) != dark
        head = page.locator("#models-table th button").first
        await head.press("Enter")
        await expect(page.locator("#models-table th").first).to_have_attribute("aria-sort", "descending")
        unnamed = await page.evaluate(
            "[...document.querySelectorAll('button,input')].filter(e => e.offsetParent && !e.textContent.trim()"
            " && !e.ariaLabel && !e.labels?.length).map(e => e.outerHTML)"
        )
        assert unnamed == []


async def test_hundreds_of_workers_and_queues(scene: Scene) -> None:
    """200 workers and 500 queues, all in motion: the page goes on answering."""
    async with scene.page() as page:
        scene.console.crowd.workers, scene.console.crowd.queues = 200, 500

        async def in_motion() -> None:
            while True:
                await scene.console.show()
                await asyncio.sleep(0.25)

        moving = asyncio.create_task(in_motion())
        try:
            await expect(page.locator("#n-workers")).to_contain_text("202", timeout=LIMIT_MS)
            await expect(page.locator("#queues-n")).to_contain_text("with something in them")
            assert await page.evaluate("document.querySelectorAll('#queues-table tbody tr').length") == 100
            # A task that waits its turn in the browser: how long others hold it up.
            waited = """new Promise(done => { const waits = []; let last = performance.now(); const look = () => {
                const now = performance.now(); waits.push(now - last); last = now;
                if (waits.length < 60) setTimeout(look, 0); else done(waits.sort((a, b) => a - b)[54]); }; look(); })"""
            assert await page.evaluate(waited) < 1000
            await page.locator("#queues-find").fill("realtime shop")
            await expect(page.locator("#queues-table tbody tr").first).to_contain_text("shop")
        finally:
            moving.cancel()


@pytest.mark.skipif(not os.environ.get("SCREENSHOTS"), reason="SCREENSHOTS names a folder for them")
async def test_screenshots(scene: Scene) -> None:
    """For eyes: light, dark, and a phone, with work in the queues."""
    folder = Path(os.environ["SCREENSHOTS"])
    async with HeadraceClient(scene.mesh.address) as client:
        _ = [event async for event in client.generate(model="fake", prompt="hello", max_tokens=20)]
        for n in range(40):
            await client.submit(model="fake", prompt="hello " * (n + 1), max_tokens=400, ignore_end=True)
        for name, width, dark in (("light", 1440, False), ("dark", 1440, True), ("phone", 390, True)):
            async with scene.page(width=width, dark=dark) as page:
                await asyncio.sleep(4)
                await page.locator("#traces").scroll_into_view_if_needed()
                await page.locator("[data-trace]").first.click()
                await page.locator("#waterfall .span").first.click()
                await page.screenshot(path=folder / f"{name}.png", full_page=True)
