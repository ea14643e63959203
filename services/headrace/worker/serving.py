"""A model that is loaded: its engine, and what its tokens mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from headrace.contract.errors import StartError, UnknownModel
from headrace.contract.values import Task
from headrace.contract.work import Device, ServedModel
from headrace.models.detokeniser import Detokeniser
from headrace.models.errors import DamagedModel, ModelError
from headrace.models.fake import read_fake_timing
from headrace.models.manifest import MANIFEST_NAME, Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.models.tokeniser import Tokeniser
from headrace.worker.allocator import keep_freed_blocks
from headrace.worker.ctranslate2_encoder import CTranslate2Encoder
from headrace.worker.ctranslate2_engine import CTranslate2Engine
from headrace.worker.ctranslate2_translator import CTranslate2Translator
from headrace.worker.device import choose_compute_type
from headrace.worker.encoder import Encoder, EncoderOnly
from headrace.worker.engine import Engine
from headrace.worker.fake_encoder import FakeEncoder
from headrace.worker.fake_engine import FakeEngine
from headrace.worker.text import TokenText
from headrace.worker.translator import Translator


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingModel:
    """One model of this worker. All its lanes share it."""

    served: ServedModel
    engine: Engine
    vocab_size: int
    context_length: int
    end_ids: Collection[int]
    new_detokeniser: Callable[[], TokenText]
    encoder: Encoder | None = None
    """Of a model that embeds; its `engine` makes no tokens."""
    translator: Translator | None = None
    """Of a model that translates; its `engine` is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Where and how models are loaded."""

    device: Device
    compute_type: str
    """As the settings have it: `auto` or one of the engine's."""
    lanes: int
    """Spare ones included."""
    threads_per_lane: int


def choose_models(store: ModelStore, names: Sequence[str]) -> Sequence[str]:
    """The models to serve: `names`, or where there are none all in the store. Raises StartError where that is empty."""
    chosen = tuple(dict.fromkeys(names)) or tuple(manifest.name for manifest in store.list())
    if not chosen:
        raise StartError(f"there is no model in {store.root}", "Pull one first: headrace model pull smollm2")
    return chosen


def load_model(store: ModelStore, name: str, placing: Placing) -> ServingModel:
    """Verifies every file of the model and loads it. Blocks for seconds. From then on the process keeps freed blocks:
    whoever measures an engine has it as a worker has.

    Raises StartError, which names what is missing or changed, or why the device cannot do it.
    """
    keep_freed_blocks()
    try:
        model = store.verify(name)
        tokeniser = Tokeniser.load(model)
        manifest = model.manifest
        encoder: Encoder | None = None
        translator: Translator | None = None
        engine: Engine
        if manifest.engine == "fake" and manifest.task == "embed":
            encoder = FakeEncoder(read_fake_timing(model), vocab_size=manifest.vocab_size)
            engine, compute_type = EncoderOnly(encoder), "none"
        elif manifest.engine == "fake":
            engine, compute_type = _load_fake(model), "none"
        elif manifest.task == "embed":
            encoder, compute_type = _load_encoder(model, placing)
            engine = EncoderOnly(encoder)
        elif manifest.task == "translate":
            engine = translator = _load_translator(model, tokeniser, placing)
            compute_type = translator.compute_type
        else:
            engine, compute_type = _load_ctranslate2(model, tokeniser, placing)
    except UnknownModel as error:
        there = ", ".join(error.known) or "none"
        raise StartError(
            f"there is no model {name!r} in {store.root}, but {there}", f"Pull it: headrace model pull {name}"
        ) from error
    except ModelError as error:
        raise StartError(str(error)) from error
    return ServingModel(
        served=ServedModel(
            name=name, version=manifest.version, compute_type=compute_type, task=Task(manifest.task)
        ),
        engine=engine,
        vocab_size=min(manifest.vocab_size, len(tokeniser.tokens)),
        context_length=manifest.context_length,
        end_ids=frozenset(manifest.end_token_ids),
        # Output goes on after its prompt; a translation is a text of its own.
        new_detokeniser=lambda: Detokeniser(tokeniser, continues=translator is None),
        encoder=encoder,
        translator=translator,
    )


def _load_fake(model: StoredModel) -> Engine:
    manifest = model.manifest
    return FakeEngine(
        read_fake_timing(model), vocab_size=manifest.vocab_size, end_id=manifest.end_token_ids[0]
    )


def _load_ctranslate2(model: StoredModel, tokeniser: Tokeniser, placing: Placing) -> tuple[Engine, str]:
    manifest: Manifest = model.manifest
    engine = CTranslate2Engine(
        model.path,
        tokens=tokeniser.tokens,
        end_ids=manifest.end_token_ids,
        device=placing.device,
        compute_type=choose_compute_type(placing.compute_type, manifest.quantisation, placing.device),
        lanes=placing.lanes,
        threads_per_lane=placing.threads_per_lane,
    )
    return engine, engine.compute_type


def _load_encoder(model: StoredModel, placing: Placing) -> tuple[Encoder, str]:
    manifest = model.manifest
    if manifest.pooling is None:
        raise DamagedModel(manifest.name, MANIFEST_NAME, "it embeds, and does not say how it pools")
    encoder = CTranslate2Encoder(
        model.path,
        vocab_size=manifest.vocab_size,
        pooling=manifest.pooling,
        normalise=manifest.normalise,
        device=placing.device,
        compute_type=choose_compute_type(placing.compute_type, manifest.quantisation, placing.device),
        lanes=placing.lanes,
        threads_per_lane=placing.threads_per_lane,
    )
    return encoder, encoder.compute_type


def _load_translator(model: StoredModel, tokeniser: Tokeniser, placing: Placing) -> CTranslate2Translator:
    manifest = model.manifest
    return CTranslate2Translator(
        model.path,
        tokens=tokeniser.tokens,
        end_ids=manifest.end_token_ids,
        device=placing.device,
        compute_type=choose_compute_type(placing.compute_type, manifest.quantisation, placing.device),
        lanes=placing.lanes,
        threads_per_lane=placing.threads_per_lane,
    )
