"""What the spans of a request say in words: the dominant cause first."""

from __future__ import annotations

import pytest

from headrace.contract.spans import AttributeValue, SpanKind
from headrace.runtime import trace_names as names
from headrace.traces.explain import explain, summarise
from tests.traces.spans import ID, TRACE, Story, event


def test_nothing_is_made_up() -> None:
    """Without spans nothing is known; with a request that went well, nothing held it up."""
    assert explain([]) == ["Nothing is known of it."]
    story = Story()
    hold = story.hold(0.5)
    story.queue(0.001, hold)
    story.schedule(0.002, 0.003, hold)
    story.generate(0.003, 0.1, 0.4, hold)
    first, work = explain(story.spans)
    assert first == "Nothing held it up: it took 500 ms."
    assert work == (
        "On w-1, lane 0: 97 ms to the first token of a prompt of 10, then 300 ms for 10 more,"
        " 30.0 ms a token, each step shared with 3 others."
    )


def test_a_flood_names_class_and_count_and_the_own_queue() -> None:
    """The wait counts from acceptance, in the broker and at the router, and says behind whom."""
    story = Story()
    hold = story.hold(6.0)
    story.queue(4.0, hold)
    story.schedule(4.0, 5.0, hold, ahead=(2, 0, 58, 0), ahead_queue=50)
    story.generate(5.0, 5.1, 6.0, hold)
    assert explain(story.spans)[0] == (
        "It waited 5.0 s in the queue behind 60 requests (2 realtime and 58 normal, 50 of them of its own queue),"
        " with 2 lanes."
    )


def test_the_longest_cause_comes_first() -> None:
    """Of a wait for a worker, one behind others, and a slow publish, each is told for its own part of the time."""
    story = Story()
    story.span(names.SPAN_SEND_REQUEST, -0.5, 0.0, kind=SpanKind.PRODUCER)
    hold = story.hold(6.0)
    story.queue(5.0, hold)
    story.schedule(5.0, 5.0, hold, no_lanes_s=4.0, load_s=3.0, ahead=(0, 0, 3, 0))
    story.generate(5.0, 5.1, 6.0, hold)
    loading, behind, broker, _ = explain(story.spans)
    assert loading == (
        "No worker had the model loaded for 4.0 s of its wait; the one that came had loaded it for 3.0 s."
    )
    assert behind.startswith("It waited 1.0 s in the queue behind 3 requests (3 normal)")
    assert broker == "NATS was slow: it took 500 ms to confirm the request."


def test_a_lost_worker_is_named_with_what_it_cost() -> None:
    """From the loss to the next token, on whichever worker; a wait after a loss is part of that, and told once."""
    story = Story()
    lost = event(
        names.EVENT_REQUEUED, 1.0, reason="its worker was lost", **{"lost.worker": "w-1"}, resumed_tokens=7
    )
    hold = story.hold(4.0, events=(lost,))
    story.queue(0.001, hold)
    story.schedule(0.001, 0.002, hold)
    story.schedule(1.0, 2.0, hold, attempt=2, ahead=(0, 0, 1, 0))
    story.generate(2.0, 2.5, 4.0, hold)
    assert explain(story.spans)[0] == (
        "Worker w-1 was lost after 7 tokens; 1.5 s went by until its next token, on w-2."
    )
    assert not any("in the queue" in sentence for sentence in explain(story.spans))


def test_an_engine_that_always_fails_is_one_cause() -> None:
    """The end says how often and where; the single losses are not told again."""
    failures = tuple(
        event(names.EVENT_REQUEUED, n * 0.1, reason="its engine failed", **{"lost.worker": "w-1"})
        for n in (1, 2)
    )
    failures = tuple(
        type(each)(
            name=each.name,
            at_ns=each.at_ns,
            attributes={**each.attributes, names.ERROR_TYPE: "ENGINE_FAILED"},
        )
        for each in failures
    )
    story = Story()
    hold = story.hold(
        0.4, events=failures, attributes={names.OUTCOME: "failed", names.ERROR_TYPE: "TOO_MANY_ATTEMPTS"}
    )
    story.queue(0.001, hold)
    for attempt in (1, 2, 3):
        story.schedule(0.1 * attempt - 0.1, 0.1 * attempt - 0.09, hold, attempt=attempt)
    assert explain(story.spans) == [
        "The engine failed at each of its 3 attempts, on w-1, w-2 and w-3; it was given up with TOO_MANY_ATTEMPTS."
    ]


def test_pauses_are_summed_by_the_class_that_went_before() -> None:
    """One that lasts until the end counts until there; the time of the tokens is without them."""
    pauses = (
        event(names.EVENT_PAUSED, 1.0, paused_by="realtime"),
        event(names.EVENT_RESUMED, 2.0),
        event(names.EVENT_PAUSED, 3.0, paused_by="realtime"),
        event(names.EVENT_RESUMED, 3.5),
        event(names.EVENT_PAUSED, 3.9, paused_by="high"),
    )
    story = Story()
    hold = story.hold(4.5, events=pauses)
    story.queue(0.001, hold)
    story.schedule(0.001, 0.002, hold)
    realtime, high = explain(story.spans)[:2]
    assert realtime == "It was paused for 1.5 s, 2 times, as realtime work went before it."
    assert high == "It was paused for 600 ms, as high work went before it."


def test_a_large_neighbour_is_told_to_the_small_one() -> None:
    """With the tokens of both; a neighbour of nearly the same length is none."""
    for longest, told in ((3000, True), (15, False)):
        story = Story()
        hold = story.hold(4.0)
        story.queue(0.001, hold)
        story.schedule(0.001, 0.002, hold)
        story.generate(0.002, 3.0, 4.0, hold, longest_prompt=longest, prompt_tokens=longest + 10)
        assert (
            "shared its batch with a prompt of 3000 tokens, its own having 10" in explain(story.spans)[0]
        ) is told


def test_a_slow_client_is_told_whether_or_not_it_let_messages_wait() -> None:
    """By the stalls that the gateway saw, or by how long it read on."""
    for call, said in (
        (
            {"delivery.stalled_s": 3.0, "delivery.stalls": 4},
            "for 3.0 s it took nothing though messages were ready (4 times)",
        ),
        ({}, "it read on for 4.0 s after the outcome was there"),
    ):
        story = Story()
        values: dict[str, AttributeValue] = dict(call)
        story.call(0, 5.0, **values)
        story.hold(1.0)
        assert explain(story.spans)[0] == f"The client was slow: {said}."


def test_a_deadline_says_how_far_the_request_had_come() -> None:
    """Whether it ran, and with how many tokens; what it waited for comes after."""
    end: dict[str, AttributeValue] = {
        names.OUTCOME: "expired",
        names.DEADLINE_S: 2.0,
        names.ERROR_TYPE: "DEADLINE_PASSED",
    }
    waited = Story()
    waited.queue(
        1.9, waited.hold(2.0, attributes={**end, names.WAIT_AHEAD: (0, 0, 9, 0), names.WAIT_LANES: 1})
    )
    first, second = explain(waited.spans)
    assert first == "Its deadline of 2.0 s passed while it waited for a lane, before its first token."
    assert second.startswith("It waited 2.0 s in the queue behind 9 requests")
    ran = Story()
    hold = ran.hold(2.0, attributes={**end, names.GEN_AI_USAGE_OUTPUT_TOKENS: 40, names.OUTPUT_LIMIT: 100})
    ran.schedule(0, 0.001, hold)
    assert explain(ran.spans)[0] == "Its deadline of 2.0 s passed after 40 of at most 100 tokens."


def test_a_lost_router_is_known_by_the_span_that_it_never_ended() -> None:
    """Its spans hang on one that nobody has; what went by until another went on is what it cost."""
    story = Story()
    story.queue(0.01, "f" * 16, router="r-1")
    story.schedule(0.01, 0.02, "f" * 16)
    story.span("generate m", 0.02, 2.0, parent="f" * 16)
    gone = event(names.EVENT_CLAIMED, 4.5, reason="the other router is gone")
    hold = story.hold(6.0, events=(gone,), router="r-2")
    story.queue(4.5, hold, router="r-2")
    story.schedule(4.5, 4.6, hold)
    assert explain(story.spans)[0] == "Router r-1 was lost; 2.5 s went by until r-2 went on with it."


@pytest.mark.parametrize(
    ("outcome", "error", "said"),
    [
        ("rejected", "OVERLOADED", "It was refused with OVERLOADED, before its first token."),
        ("cancelled", "", "Its client gave it up before its first token."),
    ],
)
def test_other_ends_are_told(outcome: str, error: str, said: str) -> None:
    """Shed, refused, given up."""
    story = Story()
    story.hold(0.1, attributes={names.OUTCOME: outcome, names.ERROR_TYPE: error})
    assert explain(story.spans)[0] == said


def test_a_refusal_at_the_gateway_needs_no_router() -> None:
    """The call's status says it."""
    story = Story()
    story.span(
        "headrace.v1.InferenceService/Generate",
        0,
        0.01,
        kind=SpanKind.SERVER,
        attributes={names.RPC_RESPONSE_STATUS_CODE: "RESOURCE_EXHAUSTED"},
    )
    assert explain(story.spans)[0] == "The gateway refused it with RESOURCE_EXHAUSTED."


def test_a_request_that_goes_on_is_not_said_to_have_ended() -> None:
    """As when its processes are lost."""
    story = Story()
    story.queue(0.01, "f" * 16)
    assert explain(story.spans)[-1].startswith("No span tells how it ended")


def test_a_summary_has_what_a_list_shows() -> None:
    """Ids, times, whose it is, how it ended, and the cause."""
    story = Story()
    story.hold(1.0, attributes={names.TENANT: "t", names.PRIORITY: "high"})
    found = summarise(ID, story.spans)
    assert (found.request_id, found.trace_id, found.model, found.tenant) == (ID, TRACE, "m", "t")
    assert (found.priority, found.outcome, found.duration_s, found.spans) == ("high", "completed", 1.0, 1)
    assert found.cause == "Nothing held it up: it took 1.0 s."
    assert summarise(TRACE, story.spans).request_id == ""
