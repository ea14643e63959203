"""A run's findings as text."""

from __future__ import annotations

from tests.hostile.run import Findings

SHOWN = 40
"""Faults that are printed; the others are counted."""


def report(findings: Findings, *, seed: int, replay: str) -> str:
    """The figures, then what must not be."""
    happened, accounts = findings.happened, findings.accounts
    lines = [f"{sum(happened.sent.values())} hostile items of seed {seed} in {findings.wall_s:.0f} s"]
    lines += [f"  {count:6} {kind}" for kind, count in happened.sent.most_common()]
    statuses = ", ".join(f"{status} {count}" for status, count in happened.statuses.most_common())
    lines += [
        f"calls: {statuses}",
        f"queue: {len(happened.stored)} stored, {happened.refused} refused by the broker;"
        f" {len(accounts.dead)} dead letters, {accounts.left} left",
        f"outcomes: {len(accounts.outcomes)}; requests accepted by the gateway: {len(happened.accepted)}",
        f"good requests in between, answered correctly: {findings.good}",
        "memory in MiB (begin, after a fifth, end): "
        + "; ".join(
            f"{name} {first:.0f} {early:.0f} {last:.0f}"
            for name, (first, early, last) in findings.memory_mib.items()
        ),
    ]
    if findings.faults:
        lines.append(f"{len(findings.faults)} faults:")
        lines += [f"  {fault}" for fault in findings.faults[:SHOWN]]
        lines.append(f"replay: {replay}")
    else:
        lines.append("no fault")
    return "\n".join(lines)
