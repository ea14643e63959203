"""The Python client.

- **client** (`client`): one connection to a gateway, and what can be asked of it.
- **failures** (`failures`): what a gateway refused or a request failed with, as an error of the tree.
"""
