"""The router's core on a virtual clock, against a virtual fleet, beside other policies that get the same requests.

- **load** (`load`, `lengths`, `asked`, `flood`): which requests come, of whom, and when; from a trace or from a seed.
- **objective** (`objectives`): how soon a request's first token is to come, and how fast the others.
- **fleet** (`fleet`, `grids`, `engine`): workers with slots and lanes that decode in lockstep, at measured costs.
- **broker** (`broker`): queues that give only what the core pulls.
- **policy** (`mesh`, `queued`, `dynamic`, `executors`, `oracle`): who decides; `mesh` has the router's core.
- **run** (`clock`, `scenario`, `run`): one load under one policy, event by event, until every request has ended.
- **figures** (`figures`, `fairness`): what a run came to.
- **study** (`study`, `capacity`, `jobs`): runs over seeds, loads and batch sizes, in processes of their own.
- **report** (`report`, `table`, `page`, `chart`): all figures, as JSON, for a terminal, and as a page.

No process is started but those that share the runs, and no clock is read: the same seed gives the same decisions.
"""
