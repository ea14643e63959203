"""Models on disk, and what makes text and tokens of each other.

- **store** (`store`, `manifest`): the folder of models; each is sealed by a manifest with the SHA-256 of its files.
- **pull** (`pull`, `catalogue`, `download`): a named model from a package index into the store.
- **import** (`importing`): a model of one's own into the store, from one of three kinds of source:
  a GGUF file (`gguf_import`, `gguf_file`, `gguf_shape`, `gguf_decoders`, `gguf_tensors`, `vocabulary`, `splitting`),
  a Hugging Face folder (`transformers_import`, `checkpoint`, `checkpoint_tokens`), or
  a CTranslate2 folder (`ctranslate2_import`, `engine_file`).
- **tokeniser** (`tokeniser`, `detokeniser`, `token_bytes`): text to token ids; token ids to text, one at a time. It is
  read from a model's own files by `tokeniser_files`, `sentencepiece` and `sentencepiece_file`.
- **chat template** (`template`, `sandbox`): messages to the one text that the model was trained on.
- **fake model** (`fake`): a model without weights, for load tests and benchmarks.
- **plan** (`network_shape`, `shape_of_*`, `typical_shapes`, `machine`, `memory`, `speed`, `fitting`): what a network
  needs and how fast it is, told before it is loaded.
- **errors** (`errors`): what can be wrong with any of them.
"""
