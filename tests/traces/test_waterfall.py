"""A request's spans as lines of text."""

from __future__ import annotations

from dataclasses import replace

from headrace.runtime import trace_names as names
from headrace.traces.waterfall import BAR, waterfall
from tests.traces.spans import Story, event


def test_children_stand_under_their_parents_with_their_times() -> None:
    """Depth, offset, duration and a bar in proportion; events stand among them."""
    story = Story()
    hold = story.hold(4.0, events=(event(names.EVENT_PAUSED, 2.0, paused_by="realtime"),))
    story.queue(1.0, hold)
    story.schedule(1.0, 2.0, hold)
    lines, total_s = waterfall(story.spans)
    assert total_s == 4.0
    assert [(line.depth, line.title, line.start_s, line.duration_s) for line in lines] == [
        (0, "process hr.v1.req", 0.0, 4.0),
        (1, "paused", 2.0, None),
        (1, "queue", 0.0, 1.0),
        (1, "schedule", 1.0, 1.0),
    ]
    assert lines[1].notes == "by realtime"
    assert lines[1].bar(total_s)[BAR // 2] == "◆"
    assert lines[3].bar(total_s) == " " * (BAR // 4) + "█" * (BAR // 4) + " " * (BAR // 2)


def test_an_orphan_and_a_circle_are_shown_once() -> None:
    """A lost router's spans have a parent that nobody has; what another process made up does not hang it."""
    story = Story()
    story.queue(1.0, "f" * 16)
    circle = story.span("a", 0, 1)
    story.spans[-1] = replace(story.spans[-1], parent_id=circle)
    lines, _ = waterfall(story.spans)
    assert [line.title for line in lines] == ["queue"]
    assert waterfall([]) == ([], 0.0)
