"""What the machines do."""

from __future__ import annotations

from deploy.grafana.panels import BY_MODEL, MODEL, MODELS, Dashboard, Panel, quantiles, rate

WORKERS = Dashboard(
    name="workers",
    about="What the machines do, and what they do in vain.",
    by=[BY_MODEL],
    rows=[
        [
            Panel(
                title="Workers, gateways",
                about="That are connected to routers.",
                kind="stat",
                series=[
                    ("sum by (headrace_state) (headrace_router_workers)", "workers {{headrace_state}}"),
                    ("max(headrace_router_gateways)", "gateways"),
                ],
            ),
            Panel(
                title="Lanes of all workers",
                about="As the routers know them.",
                stacked=True,
                series=[("sum by (headrace_state) (headrace_router_lanes)", "{{headrace_state}}")],
            ),
            Panel(
                title="Lanes, busy part",
                about="Of those that may run at once.",
                unit="percentunit",
                series=[("headrace:lanes_busy:ratio", "busy")],
            ),
        ],
        [
            Panel(
                title="Running lanes of each worker",
                about="And paused ones, whose batches gave way to more urgent work.",
                series=[
                    (
                        'headrace_worker_lanes{headrace_state=~"running|paused"}',
                        "{{headrace_member}} {{headrace_state}}",
                    )
                ],
            ),
            Panel(
                title="Tokens a second of each worker",
                about="As its engine makes them.",
                stacked=True,
                series=[
                    rate(
                        "headrace_worker_tokens_total",
                        "headrace_member",
                        where=MODELS,
                        legend="{{headrace_member}}",
                    )
                ],
            ),
        ],
        [
            Panel(
                title="Requests of a batch",
                about="When it started.",
                series=quantiles("headrace_batch_size", MODEL, where=MODELS, legend=f"{{{{{MODEL}}}}}"),
            ),
            Panel(
                title="What becomes of the places of batches",
                about="Output made a token; padding worked in a token of a longer prompt; ended were empty.",
                unit="percentunit",
                stacked=True,
                series=[
                    (
                        "sum by (headrace_use)"
                        ' (rate(headrace_worker_entry_steps_total{headrace_use!=""}[$__rate_interval]))'
                        " / ignoring(headrace_use) group_left"
                        " sum(rate(headrace_worker_entry_steps_total[$__rate_interval]))",
                        "{{headrace_use}}",
                    )
                ],
            ),
            Panel(
                title="How long batches run",
                about="Pauses included.",
                unit="s",
                series=quantiles(
                    "headrace_worker_batch_duration_seconds", MODEL, where=MODELS, legend=f"{{{{{MODEL}}}}}"
                ),
            ),
        ],
        [
            Panel(
                title="Steps a second",
                about="Of ended batches.",
                unit="ops",
                series=[rate("headrace_worker_steps_total", MODEL, where=MODELS, legend=f"{{{{{MODEL}}}}}")],
            ),
            Panel(
                title="Streams between processes",
                about="Opened anew, and requests of which something waits to be sent on them.",
                series=[
                    (
                        "increase(headrace_grpc_joins_total[$__rate_interval])",
                        "{{headrace_kind}} {{instance}} joins",
                    ),
                    ("headrace_grpc_pending", "{{headrace_kind}} {{instance}} pending"),
                ],
            ),
            Panel(
                title="Requests retried, and regrouped",
                about="Their worker was lost, failed or left; or they went on in a larger batch.",
                unit="reqps",
                series=[
                    rate("headrace_retries_total", MODEL, where=MODELS, legend=f"{{{{{MODEL}}}}} retried"),
                    rate("headrace_regroups_total", MODEL, where=MODELS, legend=f"{{{{{MODEL}}}}} regrouped"),
                ],
            ),
        ],
        [
            Panel(
                title="Texts embedded",
                about="A second.",
                unit="ops",
                series=[
                    rate("headrace_worker_texts_total", MODEL, where=MODELS, legend=f"{{{{{MODEL}}}}}"),
                ],
            ),
            Panel(
                title="What fills the places of texts",
                about="Of those embedded at once: padding holds nothing, as the longest of them was longer.",
                unit="ops",
                stacked=True,
                series=[
                    rate(
                        "headrace_worker_text_places_total",
                        "headrace_use",
                        where='headrace_use!=""',
                        legend="{{headrace_use}}",
                    ),
                ],
            ),
        ],
        [
            Panel(
                title="Static prompts",
                about="Requests that began with one: a hit saved its prefill. And the tokens that hits spared.",
                unit="ops",
                series=[
                    rate(
                        "headrace_static_prompts_total",
                        "headrace_result",
                        where='headrace_result!=""',
                        legend="{{headrace_result}}",
                    ),
                    ("sum(rate(headrace_static_prompts_spared_total[$__rate_interval]))", "tokens spared"),
                ],
            ),
            Panel(
                title="Copies for shadows",
                about="Sent to the version that is tried; dropped, as its queue was full or they were too large.",
                unit="reqps",
                series=[
                    rate(
                        "headrace_shadow_copies_total",
                        "gen_ai_response_model, headrace_result",
                        where='headrace_result!=""',
                        legend="{{gen_ai_response_model}} {{headrace_result}}",
                    )
                ],
            ),
            Panel(
                title="What shadows answer",
                about="The same as clients got, or otherwise; sampled answers say nothing.",
                unit="reqps",
                stacked=True,
                series=[
                    rate(
                        "headrace_shadow_answers_total",
                        "gen_ai_response_model, headrace_result",
                        where='headrace_result!=""',
                        legend="{{gen_ai_response_model}} {{headrace_result}}",
                    )
                ],
            ),
        ],
    ],
)
