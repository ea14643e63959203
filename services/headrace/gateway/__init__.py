"""The front door: takes requests from clients over gRPC and streams the answers back.

- **service** (`service`): the RPCs, each a line that names who does the work.
- **admission** (`admission`): what may go in: fields, limits, deadline, a model that exists.
- **publisher** (`publish`): puts a request into its queue on the broker; the broker's word is the promise.
- **originals** (`originals`): what an id was used for before: the same request, or another.
- **generate** (`generate`): a request with a client that waits for its tokens.
- **attach** (`attach`): a client that comes back to a request, or looks in on one.
- **stream**, **audience** (`streams`, `audience`): such a client, and all of them here that wait for one request.
- **relay** (`relay`): the tokens on their way to a client. **reading** (`reading`): its events, whole and in order.
- **following** (`following`): streams of requests that another call has published. **departures** (`departures`): what
  happens when the last client of a request has left.
- **routers** (`routers`, `link`): who the routers are, and one stream of deliveries from each.
- **words** (`words`): what a router is still to be told of the clients here.
- **catalogue** (`catalogue`): which models there are, and what waits for them.
- **results** (`results`): the durable outcomes. **cancels** (`cancel`): how a request is ended early.
  **hearing** (`hearing`): what other gateways end.
- **recovery** (`recovery`): ends the streams whose outcome got lost with a router.
- **readiness** (`readiness`): whether this gateway can serve, as health checks see it.
- **app** (`app`): puts them together.

The way of a request: service → admission → publisher → (broker, router, worker) → link → streams → audience → relay →
reading → generate.
"""
