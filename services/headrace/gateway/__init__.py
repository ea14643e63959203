"""The front door: takes requests from clients over gRPC and streams the answers back.

- **service** (`service`): the RPCs, each a line that names who does the work.
- **admission** (`admission`): what may go in: fields, limits, deadline, a model that exists.
- **publisher** (`publish`): puts a request into its queue on the broker; the broker's word is the promise.
- **generate** (`generate`): a request with a client that waits for its tokens.
- **stream** (`streams`), **relay** (`relay`): such a client, and the tokens on their way to it.
- **routers** (`routers`, `link`): who the routers are, and one stream of deliveries from each.
- **catalogue** (`catalogue`): which models there are, and what waits for them.
- **results** (`results`): the durable outcomes. **cancels** (`cancel`): how a request is ended early.
- **recovery** (`recovery`): ends the streams whose outcome got lost with a router.
- **readiness** (`readiness`): whether this gateway can serve, as health checks see it.
- **app** (`app`): puts them together.

The way of a request: service → admission → publisher → (broker, router, worker) → link → streams → relay → generate.
"""
