"""A device, its models and its lanes: runs the batches that a router gives it and streams their tokens back.

- **device** (`device`, `hardware`, `cuda_driver`): what the models run on, and in which number format.
- **engine** (`engine`, `ctranslate2_engine`, `fake_engine`): a loaded model that decodes a batch, step by step.
- **model** (`serving`): an engine together with what its tokens mean.
- **lane** (`lane`, `decode`, `steps`): one engine thread; it runs one batch at a time.
- **crossing** (`crossing`): the way from a lane's thread to the event loop, once per step.
- **batch** (`batch`, `entry`, `text`, `stop`): what a batch's tokens become on the event loop: text, and an end.
- **crew** (`crew`): all lanes and models together; starts and cancels batches.
- **link** (`link`, `outbox`): the stream to the router, and what waits to be sent on it.
- **spans** (`spans`): what a trace tells about a batch.

The way of a token: engine → `steps` (thread) → `crossing` → `batch` → `entry` → `outbox` → `link`.
"""
