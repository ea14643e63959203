"""What waits."""

from __future__ import annotations

from deploy.grafana.panels import BY_MODEL, CLASS, MODEL, MODELS, Dashboard, Panel, quantiles, rate

QUEUES = Dashboard(
    name="queues",
    about="What waits, where, for how long, and whether it was told the truth.",
    by=[BY_MODEL],
    rows=[
        [
            Panel(
                title="Requests that wait",
                about="At routers and in the broker, by model and class.",
                stacked=True,
                series=[(f"headrace:queue_depth:total{{{MODELS}}}", f"{{{{{MODEL}}}}} {{{{{CLASS}}}}}")],
            ),
            Panel(
                title="Oldest",
                about="How long the oldest request that a router holds has waited.",
                unit="s",
                series=[
                    (
                        f"max by ({MODEL}, {CLASS}) (headrace_queue_age_seconds{{{MODELS}}})",
                        f"{{{{{MODEL}}}}} {{{{{CLASS}}}}}",
                    )
                ],
            ),
        ],
        [
            Panel(
                title="At routers",
                about="They hold what their lanes can take soon, and some more to group by length.",
                series=[
                    (
                        f"sum by ({MODEL}, {CLASS}) (headrace_queue_waiting{{{MODELS}}})",
                        f"{{{{{MODEL}}}}} {{{{{CLASS}}}}}",
                    ),
                    ("sum by (instance) (headrace_router_held)", "{{instance}} holds, running ones included"),
                ],
            ),
            Panel(
                title="In the broker",
                about="A flood waits here.",
                series=[
                    (
                        f"max by ({MODEL}, {CLASS}) (headrace_queue_backlog{{{MODELS}}})",
                        f"{{{{{MODEL}}}}} {{{{{CLASS}}}}}",
                    )
                ],
            ),
        ],
        [
            Panel(
                title="Wait for a lane",
                about="From acceptance to the first lane, by class.",
                unit="s",
                series=quantiles(
                    "headrace_queue_wait_seconds", CLASS, where=MODELS, legend=f"{{{{{CLASS}}}}}"
                ),
            ),
            Panel(
                title="Error of the estimated wait",
                about="By how much requests waited longer, or shorter, than they were told when they came.",
                unit="s",
                series=quantiles(
                    "headrace_queue_estimate_error_seconds",
                    "headrace_direction",
                    legend="{{headrace_direction}}",
                ),
            ),
            Panel(
                title="Shed and expired",
                about="Refused as they would have come too late, and past their deadline.",
                unit="reqps",
                series=[
                    rate("headrace_shed_total", CLASS, where=MODELS, legend=f"shed {{{{{CLASS}}}}}"),
                    rate(
                        "headrace_outcomes_total",
                        CLASS,
                        where=f'{MODELS}, headrace_outcome="expired"',
                        legend=f"expired {{{{{CLASS}}}}}",
                    ),
                ],
            ),
        ],
        [
            Panel(
                title="The scheduler's decisions",
                about="What one event takes it.",
                unit="s",
                series=quantiles(
                    "headrace_router_decision_duration_seconds", "headrace_event", legend="{{headrace_event}}"
                ),
            ),
            Panel(
                title="What routers add before and after",
                about="Intake: read, rendered, tokenised. Settling: the outcome is durable and acknowledged.",
                unit="s",
                series=[
                    *quantiles("headrace_router_intake_duration_seconds", "", legend="intake"),
                    *quantiles("headrace_router_settling_duration_seconds", "", legend="settling"),
                ],
            ),
        ],
    ],
)
