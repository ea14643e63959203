"""The desired state: which models are wanted on which nodes, what each node is to have of them, and what it has.

In the bucket headrace_models, as JSON, watched:

    deploy.<name>[.<version>]    a Wish: what an operator asked for
    node.<node>                  Assigned: what a router gives a node to have, so that the wishes come true

In the bucket headrace_members, where it dies with its writer:

    worker.<node>                a NodeReport: what a node is, and how far it is

A node is a worker, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from headrace.contract.references import Reference, parse_reference

DEPLOY = "deploy."
NODE = "node."
WORKER = "worker."
ANY = "auto"
MAX_REPLICAS = 10_000


class ModelState(Enum):
    """How far a model is on a node."""

    ABSENT = "absent"
    """Given to the node, which has not begun."""
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"
    """Not wanted any more; its last batches run."""
    FAILED = "failed"
    """`problem` says why; it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A model that is wanted. One per reference."""

    reference: str
    """As it is served: a name, or `name@version` for that version alone."""
    version: str
    """The one that is meant, whole."""
    size: int
    """Bytes of its files."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only on nodes that have these."""
    device: str = ANY
    """Only on nodes with this kind of device: `cpu` or `cuda`."""
    replicas: int = 1
    """On so many nodes; 0 = on each that can have it."""
    compute_type: str = ANY
    asked_s: float = 0.0
    """When it was asked for, in Unix time."""

    @property
    def exact(self) -> str:
        """`name@version`."""
        return f"{parse_reference(self.reference).name}@{self.version}"

    @property
    def key(self) -> str:
        return deploy_key(parse_reference(self.reference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A model that a node is to have."""

    reference: str
    version: str
    compute_type: str = ANY
    since_s: float = 0.0
    """When it was given to the node, in Unix time."""

    @property
    def exact(self) -> str:
        """`name@version`."""
        return f"{parse_reference(self.reference).name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """All that a node is to have beside its own settings."""

    models: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeModel:
    """A model on a node."""

    reference: str
    version: str
    state: ModelState
    progress: float = 0.0
    """Of its fetching, 0 … 1."""
    problem: str = ""
    compute_type: str = ""
    memory_bytes: int = 0
    """What is reckoned with for it, all its lanes at work; 0 = it is not loaded."""
    tokens_per_s: float = 0.0
    """Of a lane that runs it; 0 = it has not run."""
    own: bool = False
    """Served by the node's own settings, whatever is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What a node is, and how far it is."""

    node: str
    labels: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    device_name: str = ""
    memory_bytes: int = 0
    """Of the models together, at most."""
    free_bytes: int = 0
    """Of that, what is left now."""
    draining: bool = False
    models: tuple[NodeModel, ...] = ()


def deploy_key(reference: Reference) -> str:
    """Where the wish for a reference lies."""
    return DEPLOY + (f"{reference.name}.{reference.version}" if reference.version else reference.name)
