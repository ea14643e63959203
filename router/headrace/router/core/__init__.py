"""The router's policy, without I/O or clock: `Scheduler.handle(event, now) -> commands`.

- **event** (`events`): something that happened outside: a request arrived, a lane became free, a worker was lost.
- **command** (`commands`): something to be done outside: start a batch, deliver tokens, settle an outcome, pull more.
- **held request** (`held`): a request between the pull and its outcome; it waits, runs, or is being settled.
- **lives** (`lives`): every change of a held request's state, and the command that ends it.
- **waiting** (`waiting`, ordered by `order`): the held requests that no lane has yet.
- **fleet** (`fleet`): the workers and their lanes; a free lane is a credit.
- **group** (`grouping`): the requests that one lane decodes in lockstep.
- **deadlines** (`deadlines`): when held requests expire, and when to be woken for the next.
- **demand** (`demand`): how many requests each queue may still send here.
- **estimate** (`estimate`): how long a request takes, learnt from what happened.

The same events in the same order give the same commands, in production and in simulation.
"""
