"""Who asks for what."""

from __future__ import annotations

from deploy.grafana.panels import MODEL, Dashboard, Panel, rate

TENANTS = Dashboard(
    name="tenants",
    about="Who asks for what. Tenants beyond `metrics.max_series` are `other`.",
    by=[("tenant", "label_values(headrace_tenant_outcomes_total, headrace_tenant)")],
    rows=[
        [
            Panel(
                title="Output tokens a second",
                about="Of ended requests.",
                stacked=True,
                series=[
                    rate(
                        "headrace_tokens_total",
                        "headrace_tenant",
                        where='headrace_tenant=~"$tenant", gen_ai_token_type="output"',
                        legend="{{headrace_tenant}}",
                    )
                ],
            ),
            Panel(
                title="Prompt tokens a second",
                about="Of ended requests.",
                stacked=True,
                series=[
                    rate(
                        "headrace_tokens_total",
                        "headrace_tenant",
                        where='headrace_tenant=~"$tenant", gen_ai_token_type="input"',
                        legend="{{headrace_tenant}}",
                    )
                ],
            ),
        ],
        [
            Panel(
                title="Tokens of the time shown",
                about="By tenant, model and kind: what each has used.",
                kind="table",
                series=[
                    (
                        f"sum by (headrace_tenant, {MODEL}, gen_ai_token_type)"
                        ' (increase(headrace_tokens_total{headrace_tenant=~"$tenant"}[$__range])) > 0',
                        "",
                    )
                ],
            ),
        ],
        [
            Panel(
                title="Requests ended",
                about="By tenant and how.",
                unit="reqps",
                stacked=True,
                series=[
                    rate(
                        "headrace_tenant_outcomes_total",
                        "headrace_tenant, headrace_outcome",
                        where='headrace_tenant=~"$tenant"',
                        legend="{{headrace_tenant}} {{headrace_outcome}}",
                    )
                ],
            ),
            Panel(
                title="Part that did not complete",
                about="Rejected, expired, cancelled and failed ones.",
                unit="percentunit",
                series=[
                    (
                        "1 - sum by (headrace_tenant) (rate(headrace_tenant_outcomes_total"
                        '{headrace_outcome="completed", headrace_tenant=~"$tenant"}[$__rate_interval]))'
                        ' / sum by (headrace_tenant) (rate(headrace_tenant_outcomes_total{headrace_tenant=~"$tenant"}'
                        "[$__rate_interval]))",
                        "{{headrace_tenant}}",
                    )
                ],
            ),
        ],
    ],
)
