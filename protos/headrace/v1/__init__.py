"""The wire contract, version 1: the protos, and the stubs generated from them (`make stubs`)."""
