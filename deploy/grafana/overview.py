"""Whether it is well: who is there, what comes, how it ends, and what holds it up."""

from __future__ import annotations

from deploy.grafana.panels import MODEL, Dashboard, Panel, quantiles, rate

OVERVIEW = Dashboard(
    name="overview",
    about="Is it well? Who is there, what comes and how it ends, and what holds it up.",
    rows=[
        [
            Panel(
                title="Processes that answer",
                about="Those that Prometheus scrapes.",
                kind="stat",
                series=[('sum by (headrace_kind) (up{job="headrace"})', "{{headrace_kind}}")],
            ),
            Panel(
                title="Lanes",
                about="Of all workers. Free ones could begin a batch now.",
                kind="stat",
                series=[("sum by (headrace_state) (headrace_router_lanes)", "{{headrace_state}}")],
            ),
            Panel(
                title="Requests that wait",
                about="At routers and in the broker.",
                kind="stat",
                series=[("sum(headrace:queue_depth:total)", "waiting")],
            ),
            Panel(
                title="Dead letters in the last hour",
                about="`headrace dead list` shows them.",
                kind="stat",
                series=[("increase(headrace:dead_letters:total[1h])", "new")],
            ),
        ],
        [
            Panel(
                title="Requests ended, by how",
                about="Rejected ones are refused, be it for their content or for lack of time.",
                unit="reqps",
                stacked=True,
                series=[rate("headrace_outcomes_total", "headrace_outcome", legend="{{headrace_outcome}}")],
            ),
            Panel(
                title="Tokens a second",
                about="As workers make them.",
                unit="short",
                stacked=True,
                series=[rate("headrace_worker_tokens_total", MODEL, legend=f"{{{{{MODEL}}}}}")],
            ),
        ],
        [
            Panel(
                title="Why requests end without an answer",
                about="The code of the error.",
                unit="reqps",
                series=[
                    rate(
                        "headrace_outcomes_total",
                        "headrace_outcome, error_type",
                        where='error_type!=""',
                        legend="{{headrace_outcome}} {{error_type}}",
                    )
                ],
            ),
            Panel(
                title="Retried, shed, paused, dead",
                about="Running requests that wait again; requests refused as late; batches that gave way; given up.",
                unit="ops",
                series=[
                    ("sum(rate(headrace_retries_total[$__rate_interval]))", "retried"),
                    ("sum(rate(headrace_shed_total[$__rate_interval]))", "shed"),
                    ("sum(rate(headrace_batch_pauses_total[$__rate_interval]))", "batches paused"),
                    ("sum(rate(headrace_dead_letters_total[$__rate_interval]))", "dead letters"),
                ],
            ),
        ],
        [
            Panel(
                title="Calls, by status",
                about="RESOURCE_EXHAUSTED are refusals.",
                unit="reqps",
                series=[
                    rate(
                        "rpc_server_call_duration_seconds_count",
                        "rpc_response_status_code",
                        legend="{{rpc_response_status_code}}",
                    )
                ],
            ),
            Panel(
                title="Broker: connected, troubles, bytes that wait to be sent",
                about="Of each process; connected is 1, and troubles 0, where all is well.",
                series=[
                    ("headrace_nats_connected", "{{instance}} connected"),
                    ("headrace_nats_troubles", "{{instance}} troubles"),
                    ("headrace_nats_pending_bytes", "{{instance}} bytes"),
                    ("increase(headrace_nats_reconnects_total[$__rate_interval])", "{{instance}} reconnects"),
                ],
            ),
            Panel(
                title="Messages to and from the broker",
                about="A second.",
                unit="ops",
                series=[
                    rate(
                        "headrace_nats_messages_total", "headrace_direction", legend="{{headrace_direction}}"
                    )
                ],
            ),
        ],
        [
            Panel(
                title="CPU",
                about="Cores that each process uses.",
                series=[
                    rate(
                        "process_cpu_time_seconds_total",
                        "instance, headrace_kind",
                        legend="{{headrace_kind}} {{instance}}",
                    )
                ],
            ),
            Panel(
                title="Memory",
                about="Resident.",
                unit="bytes",
                series=[("process_memory_usage_bytes", "{{headrace_kind}} {{instance}}")],
            ),
            Panel(
                title="Event loop lag",
                about="How late timers come: so do tokens.",
                unit="s",
                series=quantiles("headrace_event_loop_lag_seconds", "instance", legend="{{instance}}"),
            ),
            Panel(
                title="Open files, and pages of the console",
                about="Sockets are files, too.",
                series=[
                    ("headrace_process_open_files", "{{headrace_kind}} {{instance}}"),
                    ("headrace_console_pages", "{{instance}} pages"),
                ],
            ),
        ],
    ],
)
