"""Process plumbing that every process of Headrace is built from.

- **settings** (`settings`): one frozen object per process, from flags, environment and TOML.
- **logs** (`logs`): structured lines on stderr, with trace and span; never a prompt or an output.
- **embedded server** (`nats_server`): the nats-server that Headrace starts for itself on one machine.
- **connection** (`nats_connection`): a NATS client that comes back, and a state that says whether it is there.
- **health** (`nats_state`): whether the broker is there, has what it needs, and stores what it is given.
- **layout** (`nats_layout`, `nats_streams`, `nats_queues`, `nats_upkeep`): streams, buckets and consumers, declared
  idempotently, and again where somebody deleted them.
- **back-off** (`backoff`): how long to wait before the next try.
- **refusal** (`nats_refusal`): why JetStream did not store a message.
- **child process** (`child_process`): a process that does not outlive its parent.
- **telemetry** (`telemetry`, `propagation`, `trace_names`): traces, exported where OTEL_* says so.
- **tracer** (`recording`, `sampling`): spans at a small cost, as the standard settings choose them.
- **recent spans** (`recent_spans`, `span_sender`): what the gateways are told of them, for `headrace trace`.
- **metrics** (`metrics`, `metrics_start`, `metric_names`): counts that are always kept, and distributions and exporters
  that OTEL_* or `metrics.port` switches on.
- **server** (`grpc_server`), **shutdown** (`shutdown`): a gRPC server, and the way down: drain, then stop.
"""
