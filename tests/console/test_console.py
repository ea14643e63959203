"""A console on a real nats-server, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from headrace.contract.subjects import REQUESTS_STREAM
from headrace.runtime.nats_server import EmbeddedNats
from tests.console.conftest import LIMIT_S, TOKEN, Console, events, running_console
from tests.console.letters import QUEUE, SECRET, lay_letter

pytestmark = pytest.mark.integration


async def test_what_routers_show_reaches_a_page(console: Console) -> None:
    """Routers, workers with their lanes, queues and models; and what changes comes as it changes."""
    rows = await console.until(lambda rows: len(rows.get("workers", {})) == 3)
    assert set(rows["routers"]) == {"router-1", "router-2"}
    assert rows["mesh"]["mesh"]["connected"]
    before = {key: row["batches"] for key, row in rows["workers"].items()}
    after = await console.until(
        lambda rows: {key: row["batches"] for key, row in rows.get("workers", {}).items()} != before
    )
    assert set(after["models"]) >= {"smollm2"}


async def test_two_hundred_workers_and_five_hundred_queues(console: Console) -> None:
    """All of them arrive; a state takes less than half a megabyte, and what changes is less than that."""
    console.crowd.workers, console.crowd.queues = 200, 500
    await console.until(
        lambda rows: len(rows.get("workers", {})) == 200 and len(rows.get("queues", {})) == 500
    )
    whole = (await console.ask("/api/state")).body
    assert len(whole) < 500_000
    async with asyncio.timeout(LIMIT_S), events(console) as stream:
        await anext(stream)
        await console.show()
        async for event in stream:
            if not event["state"]["full"]:
                assert len(json.dumps(event)) < len(whole)
                break


async def test_dead_letters_are_listed_without_what_was_asked(console: Console) -> None:
    """Their error, model, class and tenant; the prompt stays where it is."""
    number = await lay_letter(console.nats)
    answer = await console.ask("/api/dead")
    (letter,) = answer.json["letters"]
    assert letter["number"] == number
    assert (letter["code"], letter["model"], letter["tenant"]) == ("TOO_MANY_ATTEMPTS", "fake", "shop")
    assert letter["replayable"]
    assert SECRET.encode() not in answer.body
    rows = await console.until(lambda rows: rows["mesh"]["mesh"]["dead"] == 1)
    assert rows["mesh"]["mesh"]["last_dead"] == number


async def test_only_an_operator_replays(console: Console) -> None:
    """Without the token, or with another one, the letter stays; with it, its request is in its queue again."""
    number = await lay_letter(console.nats)
    path = f"/api/dead/{number}/replay"
    for token in ("", "a-wrong-token-of-one", TOKEN + "x"):
        refused = await console.ask(path, token=token, method="POST")
        assert (refused.status, refused.json["code"]) == (401, "UNAUTHENTICATED")
        assert (await console.ask("/api/operator", token=token)).status == 401
    assert (await console.ask(path, token=TOKEN)).status == 405  # a link cannot do it
    assert len((await console.ask("/api/dead")).json["letters"]) == 1
    assert (await console.ask("/api/operator", token=TOKEN)).status == 204
    done = await console.ask(path, token=TOKEN, method="POST")
    assert done.status == 200
    assert done.json["request_id"] == "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert (await console.ask("/api/dead")).json["letters"] == []
    queued = await console.nats.jetstream().get_last_msg(REQUESTS_STREAM, QUEUE.subject)
    assert (queued.headers or {})["Nats-Msg-Id"] == done.json["new_request_id"]
    again = await console.ask(path, token=TOKEN, method="POST")
    assert (again.status, again.json["code"]) == (404, "NOT_FOUND")
    nonsense = await console.ask("/api/dead/1e3/replay", token=TOKEN, method="POST")
    assert nonsense.status == 400


async def test_without_a_token_nobody_is_an_operator(fresh_nats: EmbeddedNats) -> None:
    """The console says what to set; without any router's streams it says that there are no letters yet."""
    async with running_console(fresh_nats.url, **{"console.token": None}) as console:
        refused = await console.ask("/api/dead/1/replay", token="whatever-it-is", method="POST")
        assert refused.status == 403
        assert "console.token" in refused.json["message"]
        assert "HEADRACE_DEAD" in (await console.ask("/api/dead")).json["problem"]


async def test_the_page_is_whole_and_asks_nobody_else(console: Console) -> None:
    """Every file that it names is there, none lies elsewhere, and its policy lets nothing else in."""
    page = await console.ask("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    text = page.body.decode()
    names = set(re.findall(r'(?:src|href)="(assets/[^"]+)"', text))
    assert len(names) >= 6
    assert not re.search(r"(?:src|href)=.(?:https?:)?//", text)
    while names:
        name = names.pop()
        asset = await console.ask(f"/{name}")
        assert asset.status == 200, name
        names |= {f"assets/{other}" for other in re.findall(r'from "\./([^"]+)"', asset.body.decode())} - {
            name
        }
    assert b"Leon Sorokin" in (await console.ask("/assets/uPlot.LICENSE")).body
    again = await console.ask("/", **{"if-none-match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    packed = await console.ask("/assets/uPlot.iife.min.js", **{"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    for nowhere in ("/assets/../app.py", "/assets/%2e%2e%2fapp.py", "/assets/app.py", "/api/nothing"):
        assert (await console.ask(nowhere)).status == 404


async def test_requests_for_another_host_are_refused(console: Console) -> None:
    """A foreign page that has its own name point to this machine reads nothing."""
    assert (await console.ask("/api/state", host="evil.example:7780")).status == 421
    assert (await console.ask("/healthz", host=f"localhost:{console.port}")).status == 200
    assert (await console.ask("/healthz", host=f"[::1]:{console.port}")).status == 200


async def test_a_state_that_is_none_does_no_harm(console: Console) -> None:
    """Anybody may publish there; the next good one is shown all the same."""
    await console.nats.publish("hr.v1.state.router.evil", b"\xff\xff")
    await console.nats.publish("hr.v1.state.router.evil", b"")
    rows = await console.until(lambda rows: "router-1" in rows.get("routers", {}))
    assert "evil" not in rows["routers"]


async def test_traces_without_a_gateway_say_so(console: Console) -> None:
    """The list has the problem in words; one trace is 503."""
    answer = await console.ask("/api/traces")
    assert answer.status == 200
    assert "gateway" in answer.json["problem"]
    assert (await console.ask("/api/traces/abc")).status == 503
