"""The benchmark: the same requests through a running mesh and on the engine directly, measured alike.

- **load** (`load`, `lengths`, `arrivals`, `synthetic`, `trace`): which requests come, how long they are, and when.
- **prompt** (`prompts`): a text of exactly as many tokens as the load says.
- **record** (`record`): what one request's consumer saw, and what is wrong with its stream.
- **driver** (`driver`, `driver_process`, `drivers`): plays a load against a gateway, in processes of its own.
- **direct** (`direct`, `direct_process`): plays the same load on the engine with nothing around it.
- **usage** (`usage`): CPU time and memory of the processes of a mesh.
- **figures** (`figures`): throughput and percentiles of records.
- **report** (`report`, `table`): everything that was measured, as JSON and for a person.
- **benchmark** (`plan`, `benchmark`): one phase after another; `child_job` runs its child processes.

It starts no mesh: it is given the address and the processes of one.
"""
