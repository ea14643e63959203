"""All that is known of one request, in order: its client, the blows, and the processes' logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tests.chaos.arrivals import Arrivals
from tests.chaos.blows import Struck
from tests.chaos.seen import Seen

Line = tuple[float, str]
"""`time.time` and what happened."""

_AROUND_S = 8.0
"""So long before and after the request, blows are told of."""
_LONGEST = 400


def timeline(seen: Seen, struck: Sequence[Struck], folder: Path, offset_s: float, start_s: float) -> str:
    """One line per event. `offset_s` is `time.time` less `time.monotonic`; times are shown since `start_s`."""
    lines: list[Line] = [(at_s + offset_s, f"client    {what}") for at_s, what in seen.notes]
    for stream in seen.streams:
        lines += _arrivals(stream, offset_s)
    end_s = (seen.ended_s or seen.began_s + 60) + offset_s
    for hit in struck:
        for at_s, what in ((hit.began_s, str(hit.blow)), (hit.back_s, f"#{hit.blow.number} is back")):
            if seen.began_s + offset_s - _AROUND_S <= at_s + offset_s <= end_s + _AROUND_S:
                lines.append((at_s + offset_s, f"BLOW      {what}"))
    for path in sorted(folder.glob("*.log")):
        lines += _logged(path, seen.asked.request_id)
    begin_s = start_s + offset_s
    return "\n".join(f"  {at_s - begin_s:9.3f}  {what}" for at_s, what in sorted(lines))


def _arrivals(stream: Arrivals, offset_s: float) -> Iterator[Line]:
    """Chunks, those within a tenth of a second as one."""
    begun_at = 0
    times, indices = stream.at_s, stream.next_index
    for index, (at_s, after) in enumerate(zip(times, indices, strict=True)):
        last = index + 1 == len(times)
        if last or times[index + 1] - at_s > 0.1 or indices[index + 1] <= after:
            yield at_s + offset_s, f"client    tokens {begun_at} … {after - 1}"
            begun_at = after


def _logged(path: Path, request_id: str) -> Iterator[Line]:
    with path.open(errors="replace") as file:
        for line in file:
            if request_id not in line:
                continue
            try:
                entry = json.loads(line)
                at_s = datetime.fromisoformat(entry.pop("timestamp")).timestamp()
            except (ValueError, KeyError):
                continue
            entry.pop("request_id", None)
            yield at_s, f"{path.stem:9} {json.dumps(entry)[:_LONGEST]}"
