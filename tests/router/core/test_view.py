"""What the scheduler lets be seen is what it does."""

from __future__ import annotations

from headrace.contract.values import Priority
from headrace.router.core.commands import Pause
from tests.router.core.dialogue import Dialogue, joined, made, request


def test_lanes_tell_their_batch_and_how_far_it_is() -> None:
    """Entries that still run, the longest context, the tokens of all, and since when."""
    dialogue = Dialogue(joined(lanes=2), request("a"))
    (view,) = dialogue.scheduler.workers()
    assert (view.name, view.lanes, view.slots, len(view.batches)) == ("w", 2, 2, 1)
    (batch,) = view.batches
    assert (batch.model, batch.priority, batch.entries) == ("m", Priority.NORMAL, 1)
    assert (batch.context, batch.generated, batch.started_s) == (10, 0, 0.0)
    assert batch.paused_at_s is None


def test_tokens_make_the_context_longer() -> None:
    """As they come in."""
    dialogue = Dialogue(joined())
    start = dialogue.start(request("a"))
    dialogue.tell(made(start.assignments[0], 0, 3))
    (batch,) = dialogue.scheduler.workers()[0].batches
    assert (batch.context, batch.generated) == (13, 3)


def test_a_paused_batch_says_since_when() -> None:
    """Urgent work has its slot."""
    dialogue = Dialogue(joined(lanes=2, slots=1), request("a", priority=Priority.BATCH))
    commands = dialogue.tell(request("b", priority=Priority.REALTIME), at=3.0)
    assert any(isinstance(command, Pause) for command in commands)
    paused, running = sorted(dialogue.scheduler.workers()[0].batches, key=lambda batch: -batch.priority)
    assert (paused.paused_at_s, running.paused_at_s) == (3.0, None)


def test_queues_tell_how_many_wait_and_since_when() -> None:
    """Those that a lane has are not among them."""
    dialogue = Dialogue(joined(max_batch=1), request("a"))
    dialogue.tell(
        request("b", queue="q", arrived_s=2.0),
        request("c", queue="q", arrived_s=1.0),
        request("d", queue="r", arrived_s=4.0),
    )
    seen = {view.queue: (view.waiting, view.oldest_s) for view in dialogue.scheduler.queues()}
    assert seen == {"q": (2, 1.0), "r": (1, 4.0)}
