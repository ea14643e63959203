"""The router: every request between the pull and the acknowledgement.

The way of a request, one file a step:

    queues ──► intake ──► conductor ⇄ core.Scheduler ──► workers ──► (tokens) ──► conductor ──► delivery ──► outcomes
    pulls      checks,     tells the core what happened,   Work       keeps them    gateway       result, then
    messages   tokenises   does what it commands           streams                  or NATS       acknowledgement

- **record** (`ledger`): what the router knows of a held request: its message, its prompt's tokens, its output so far.
- **conductor** (`conductor`): the one loop between the pure core and the world; it decides nothing.
- **link** (`workers`, `gateways`): one open stream to a worker or a gateway.
- **outbox** (`outbox`): what waits to be sent to one receiver, joined per request.
- **lease** (`leases`): the broker's wait for an acknowledgement, extended while a request is held.
"""
