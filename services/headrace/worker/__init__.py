"""A device, its models and its lanes: runs the batches that a router gives it and streams their tokens back.

- **device** (`device`, `hardware`, `cuda_driver`): what the models run on, and in which number format.
- **engine** (`engine`, `ctranslate2_engine`, `fake_engine`): a loaded model that decodes a batch, step by step.
- **model** (`serving`): an engine together with what its tokens mean.
- **lane** (`lane`, `decode`, `steps`): one engine thread; it runs one batch at a time.
- **gate** (`gate`): lets as many batches run as there are slots; the others are paused, or have not begun.
- **crossing** (`crossing`): the way from a lane's thread to the event loop, once per step.
- **batch** (`batch`, `entry`, `text`, `stop`): what a batch's tokens become on the event loop: text, and an end.
- **crew** (`crew`): all lanes and models together; starts, pauses and cancels batches.
- **link** (`link`, `outbox`): the stream to the router, and what waits to be sent on it.
- **cost** (`known_cost`, `fake_cost`): what a model costs here, for the router; `measure` times one batch,
  `grids` many.
- **calibration** (`calibrate`, `trial`, `shape`, `calibration`, `calibration_store`, `fingerprint`): what was measured
  thoroughly, once, and is kept for the machine it holds for.
- **spans** (`spans`): what a trace tells about a batch.

The way of a token: engine → `steps` (thread) → `crossing` → `batch` → `entry` → `outbox` → `link`.
"""
