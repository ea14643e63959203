"""The `headrace` command.

- **command** (`main`): the table of commands; each lives in a file of its own and imports what is heavy when it runs.
- **options** (`options`, `ask_options`): flags that commands share.
- **failures** (`failures`): how an error ends a command.
- **process** (`processes`): one router, gateway or worker.
- **mesh** (`up`, `mesh`, `bring_up`): all of them on one machine, planned and then started.
- **child** (`supervisor`, `child`, `restarts`): a process that is started again when it falls, and stopped in order.
- **view** (`log_view`, `stream_view`, `ready_block`, `demo_view`): what a person sees of it.
- **request** (`generate`, `requests`, `gateway_call`): asking a mesh something; **demo** (`demo`): all of it in one go.
- **model** (`model`, `model_needed`): what is in the store; **bench** (`bench`): a mesh under load.
"""
