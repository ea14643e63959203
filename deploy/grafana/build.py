"""Writes the Grafana dashboards beside it, from the modules beside it: `python -m deploy.grafana.build`."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana.latency import LATENCY
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panels import built
from deploy.grafana.queues import QUEUES
from deploy.grafana.tenants import TENANTS
from deploy.grafana.workers import WORKERS

HERE = Path(__file__).parent
DASHBOARDS = (OVERVIEW, QUEUES, WORKERS, TENANTS, LATENCY)


def files() -> dict[Path, str]:
    """Each file with its content."""
    return {
        HERE / f"{dashboard.name}.json": json.dumps(built(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
