"""How long people wait."""

from __future__ import annotations

from deploy.grafana.panels import BY_MODEL, CLASS, MODELS, Dashboard, Panel, quantiles

LATENCY = Dashboard(
    name="latency",
    about="How long people wait, and for what. With a trace store, the points of these histograms lead to traces.",
    by=[BY_MODEL],
    rows=[
        [
            Panel(
                title="Time to the first token",
                about="From acceptance, the wait included, by class.",
                unit="s",
                series=quantiles(
                    "gen_ai_server_time_to_first_token_seconds",
                    CLASS,
                    where=MODELS,
                    legend=f"{{{{{CLASS}}}}}",
                ),
            ),
            Panel(
                title="of which: wait for a lane",
                about="The rest is prefill, and the way of the token.",
                unit="s",
                series=quantiles(
                    "headrace_queue_wait_seconds", CLASS, where=MODELS, legend=f"{{{{{CLASS}}}}}"
                ),
            ),
        ],
        [
            Panel(
                title="Time per output token",
                about="After the first; pauses are in it.",
                unit="s",
                series=quantiles(
                    "gen_ai_server_time_per_output_token_seconds",
                    CLASS,
                    where=MODELS,
                    legend=f"{{{{{CLASS}}}}}",
                ),
            ),
            Panel(
                title="Whole request",
                about="From acceptance to the outcome.",
                unit="s",
                series=quantiles(
                    "gen_ai_server_request_duration_seconds", CLASS, where=MODELS, legend=f"{{{{{CLASS}}}}}"
                ),
            ),
        ],
        [
            Panel(
                title="First tokens, as they are distributed",
                about="Each column is an interval; the darker, the more requests.",
                unit="s",
                kind="heatmap",
                series=[
                    (
                        f"sum by (le) (increase(gen_ai_server_time_to_first_token_seconds_bucket{{{MODELS}}}"
                        "[$__rate_interval]))",
                        "{{le}}",
                    )
                ],
            ),
            Panel(
                title="Tokens of a request",
                about="Of prompts and of outputs.",
                series=quantiles(
                    "gen_ai_client_token_usage",
                    "gen_ai_token_type",
                    where=MODELS,
                    legend="{{gen_ai_token_type}}",
                ),
            ),
        ],
        [
            Panel(
                title="Acceptance by the broker",
                about="From a request's publication to the acknowledgement.",
                unit="s",
                series=quantiles(
                    "messaging_client_operation_duration_seconds", "error_type", legend="{{error_type}}"
                ),
            ),
            Panel(
                title="Calls",
                about="How long they take, by method.",
                unit="s",
                series=quantiles("rpc_server_call_duration_seconds", "rpc_method", legend="{{rpc_method}}"),
            ),
            Panel(
                title="Open streams, calls, routers of each gateway",
                about="Streams beyond `gateway.max_concurrent_streams` are refused.",
                series=[
                    ("headrace_gateway_streams", "{{instance}} streams"),
                    ('headrace_grpc_active_calls{headrace_kind="gateway"}', "{{instance}} calls"),
                    ("headrace_gateway_routers", "{{instance}} routers"),
                ],
            ),
        ],
    ],
)
