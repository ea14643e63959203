"""The models that this router can render and tokenise for, loaded from the model store when first asked for."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest
from headrace.contract.requests import Request
from headrace.contract.state import ModelState
from headrace.contract.values import Task
from headrace.models.framing import Framing
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.models.template import ChatTemplate
from headrace.models.tokeniser import Tokeniser
from headrace.router.prepared import Prepared, prepare_texts, prepare_translation


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterModel:
    """What it takes to turn a request's input into tokens."""

    manifest: Manifest
    tokeniser: Tokeniser
    template: ChatTemplate | None
    framing: Framing

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
    """By name. A model that is pulled while the router runs is found at the next look."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._loaded: dict[str, RouterModel] = {}

    def names(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def get(self, name: str) -> RouterModel | None:
        return self._loaded.get(name)

    def versions(self) -> dict[str, str]:
        return {name: model.manifest.version for name, model in self._loaded.items()}

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

    def look(self) -> bool:
        """Loads what is new or changed in the store; whether there was any. Blocks: run it in a thread."""
        found = {manifest.name: manifest for manifest in self._store.list()}
        changed = {name for name in self._loaded if name not in found}
        for name in changed:
            del self._loaded[name]
        for name, manifest in found.items():
            loaded = self._loaded.get(name)
            if loaded is None or loaded.manifest.version != manifest.version:
                self._loaded[name] = self._load(name)
                changed.add(name)
        return bool(changed)

    def _load(self, name: str) -> RouterModel:
        stored = self._store.open(name)
        manifest = stored.manifest
        tokeniser = Tokeniser.load(stored)
        template = ChatTemplate.of(stored)
        return RouterModel(
            manifest=manifest,
            tokeniser=tokeniser,
            template=template,
            framing=Framing.of(manifest, tokeniser),
        )
