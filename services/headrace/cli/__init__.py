"""The `headrace` command.

- **command** (`main`): the table of commands; each lives in a file of its own and imports what is heavy when it runs.
- **options** (`options`): flags that commands share; **failures** (`failures`): how an error ends a command.
- **process** (`processes`): one router, gateway or worker.
- **mesh** (`up`, `mesh`, `supervisor`, `child`): all of them on one machine, restarted when they fall.
- **view** (`log_view`, `stream_view`, `ready_block`): what a person sees of it.
- **request** (`generate`, `requests`): asking a mesh something; **demo** (`demo`): all of it in one go.
"""
