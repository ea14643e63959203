"""The words that the processes share.

- **values** (`values`, `requests`, `ids`): a request, its sampling, tokens and outcome,
  as frozen dataclasses.
- **messages** (`work`, `deliver`): what router and worker, and router and gateway, say to each other.
- **wire** (`*_wire`): those values to protobuf and back; the only importers of the generated stubs.
- **subjects** (`subjects`): the names of streams, buckets, queues and subjects on NATS.
- **errors** (`errors`): the one error tree.
"""
