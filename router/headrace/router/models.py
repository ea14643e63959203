"""The models that this router can render and tokenise for, loaded from the model store when first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from headrace.contract.errors import InvalidRequest, UnknownModel
from headrace.contract.references import parse_reference
from headrace.contract.requests import Request
from headrace.contract.state import ModelState
from headrace.contract.values import Task
from headrace.models.errors import DamagedModel, ModelError
from headrace.models.framing import Framing
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.models.template import ChatTemplate
from headrace.models.tokeniser import Tokeniser
from headrace.models.words import find_words, words_digest
from headrace.router.prepared import Prepared, prepare_texts, prepare_translation

log = structlog.get_logger(__name__)

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterModel:
    """What it takes to turn a request's input into tokens."""

    manifest: Manifest
    tokeniser: Tokeniser
    template: ChatTemplate | None
    framing: Framing
    words: str = ""
    """Equal for versions of the same words."""

    def prepare(self, request: Request, default_max_tokens: int) -> Prepared:
        """The request's tokens, which fit the model. Blocks for as long as rendering and tokenising take.

        Raises InvalidRequest, or the template's own errors, which are InvalidRequest too.
        """
        task = Task(self.manifest.task)
        if request.task is not task:
            raise InvalidRequest(
                "task",
                f"{request.task.value} is none of model {self.manifest.name}, which is for {task.value}",
            )
        match task:
            case Task.EMBED:
                return prepare_texts(request, self.manifest, self.framing)
            case Task.TRANSLATE:
                return prepare_translation(request, self.manifest, self.framing, default_max_tokens)
            case _:
                prompt = self.tokenise(request)
                max_tokens = self.check_length(len(prompt), request, default_max_tokens)
                return Prepared(prompt=prompt, max_tokens=max_tokens)

    def tokenise(self, request: Request) -> tuple[int, ...]:
        """The prompt's tokens. Blocks for as long as rendering and tokenising take.

        Raises InvalidRequest, or the template's own errors, which are InvalidRequest too.
        """
        if not request.messages:
            return tuple(self.tokeniser.encode_prompt(request.prompt))
        if self.template is None:
            raise InvalidRequest(
                "messages", f"model {self.manifest.name} has no chat template: send a prompt"
            )
        pairs = [(message.role, message.content) for message in request.messages]
        return tuple(self.tokeniser.encode_chat(self.template, pairs))

    def check_length(self, prompt_tokens: int, request: Request, default_max_tokens: int) -> int:
        """The most tokens that the request may make. Raises InvalidRequest with both numbers where it does not fit."""
        context = self.manifest.context_length
        field = "messages" if request.messages else "prompt"
        if prompt_tokens == 0:
            raise InvalidRequest(field, "is empty: it has no tokens")
        if prompt_tokens >= context:
            raise InvalidRequest(field, f"has {prompt_tokens} tokens; the context length is {context}")
        room = context - prompt_tokens
        if request.max_tokens > room:
            raise InvalidRequest(
                "max_tokens",
                f"{request.max_tokens} and a prompt of {prompt_tokens} tokens exceed the context length {context};"
                f" at most {room} are left",
            )
        return request.max_tokens or min(default_max_tokens, room)


class RouterModels:
    """By reference: the names of the store, and the versions that are wanted or that workers have loaded.

    A model that is pulled while the router runs is found at the next look. Of a version that is not in the store its
    words do, which `headrace.router.words` fetches.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._loaded: dict[str, RouterModel] = {}
        self._versions: dict[str, RouterModel] = {}
        """By `name@version`."""
        self._damaged: set[str] = set()
        self.missing: frozenset[tuple[str, str]] = frozenset()
        """(name, version) of those that the last look needed and did not find."""

    def names(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def get(self, name: str) -> RouterModel | None:
        return self._loaded.get(name)

    def serves(self, reference: str, version: str) -> bool:
        """Whether what is tokenised here for `reference` can be run by that version of it."""
        meant = self._loaded.get(reference)
        if meant is None:
            return False
        if meant.manifest.version == version:
            return True
        other = self._versions.get(f"{meant.manifest.name}@{version}")
        # While the version of a name changes, some workers have the one, and some the other.
        return other is not None and other.words == meant.words

    def states(self) -> tuple[ModelState, ...]:
        """As those who look on see them, by name."""
        return tuple(
            ModelState(
                name=name,
                version=(manifest := self._loaded[name].manifest).version,
                task=manifest.task,
                context_length=manifest.context_length,
            )
            for name in sorted(self._loaded)
        )

    def words(self, reference: str) -> str:
        """Equal for those that make the same tokens of the same text; "" where it is not here."""
        found = self._loaded.get(reference) or self._versions.get(reference)
        return "" if found is None else found.words

    def look(
        self, wanted: Mapping[str, str] = _NOTHING, offered: Iterable[tuple[str, str]] = frozenset()
    ) -> bool:
        """Loads what is new or changed; whether there was any. Blocks: run it in a thread.

        `wanted` has the references of the desired state with their versions, `offered` what workers have loaded.
        """
        offered = tuple(offered)
        named = {manifest.name: manifest.version for manifest in self._store.list()}
        meant = dict(sorted(offered)) | named
        versions: dict[str, RouterModel] = {}
        missing: set[tuple[str, str]] = set()

        def find(reference: str, version: str, *, required: bool = False) -> RouterModel | None:
            name = parse_reference(reference).name
            model = versions.get(f"{name}@{version}") or self._version(name, version, required=required)
            if model is None:
                missing.add((name, version))
            else:
                versions[f"{name}@{version}"] = model
            return model

        loaded: dict[str, RouterModel] = {}
        for reference, version in meant.items():
            if (model := find(reference, version, required=reference in named)) is not None:
                loaded[reference] = model
        for reference, version in offered:
            find(reference, version)
        for reference, version in wanted.items():
            # Until its words are here, what the name meant before goes on: nobody is to notice a change.
            model = find(reference, version) or loaded.get(reference) or self._loaded.get(reference)
            if model is not None:
                loaded[reference] = model
                versions[f"{model.manifest.name}@{model.manifest.version}"] = model
        changed = loaded != self._loaded or versions.keys() != self._versions.keys()
        self._loaded, self._versions, self.missing = loaded, versions, frozenset(missing)
        return changed

    def _version(self, name: str, version: str, *, required: bool) -> RouterModel | None:
        """A version, where the store has it or its words. Raises ModelError where it is damaged and `required`."""
        exact = f"{name}@{version}"
        if (known := self._versions.get(exact)) is not None:
            return known
        try:
            stored = self._store.open(exact)
        except (UnknownModel, InvalidRequest, DamagedModel):
            found = find_words(self._store, name, version)
            if found is None:
                return None
            stored = found
        try:
            return _load(stored)
        except ModelError as error:
            if required:
                raise
            if exact not in self._damaged:
                self._damaged.add(exact)
                log.warning("model.not_usable", model=exact, problem=str(error))
            return None


def _load(stored: StoredModel) -> RouterModel:
    tokeniser = Tokeniser.load(stored)
    return RouterModel(
        manifest=stored.manifest,
        tokeniser=tokeniser,
        template=ChatTemplate.of(stored),
        framing=Framing.of(stored.manifest, tokeniser),
        words=words_digest(stored.manifest),
    )
