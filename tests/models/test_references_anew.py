"""The references made afresh, and conversion itself. Only where the extra `convert` is installed, and sentencepiece."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import ctranslate2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

import torch
import transformers

from headrace.models.errors import BadCheckpoint, UnsupportedModel
from headrace.models.gguf_file import GgufFile
from headrace.models.importing import ModelSource, import_model
from headrace.models.sentencepiece import tokeniser_of
from headrace.models.sentencepiece_file import read_piece_model
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from tests.models.references.make import make
from tests.models.references.reference import FOLDER, committed, read_reference
from tests.models.references.texts import PROMPTS, TRAINING, TRICKY
from tests.models.references.tiny_networks import NETWORKS, make_network
from tests.models.test_references import fed

pytestmark = pytest.mark.convert


@pytest.fixture(scope="module", params=committed())
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """(architecture, folder with the reference, folder with the checkpoint)"""
    name: str = request.param
    folder = tmp_path_factory.mktemp("anew")
    (folder / name).mkdir()
    make(name, folder / name, folder / "checkpoint")
    return name, folder / name, folder / "checkpoint"


def test_they_are_the_committed_ones(made: tuple[str, Path, Path]) -> None:
    """The same tokens of texts and prompts, the same greedy outputs, and logits within 1e-4."""
    name, folder, _ = made
    fresh, kept = read_reference(folder), read_reference(FOLDER / name)
    assert fresh.texts == kept.texts
    assert fresh.runs == kept.runs
    for new, old in zip(fresh.logits, kept.logits, strict=True):
        assert np.abs(new - old).max() < 1e-4


def test_the_checkpoint_converts(made: tuple[str, Path, Path], tmp_path: Path) -> None:
    """The Hugging Face folder, imported as float32: the same vocabulary and texts, and a decoder's same logits."""
    name, _, checkpoint = made
    reference = read_reference(FOLDER / name)
    asked = ModelSource(path=checkpoint, name=name, quantisation="float32")
    model = import_model(ModelStore(tmp_path), asked, lambda done, total: None)
    assert model.manifest.task == reference.task
    tokeniser = Tokeniser.load(model)
    texts = {t: ids for t, ids in reference.texts.items() if "<s>" not in t and "<|im_start|>" not in t}
    assert {text: tokeniser.encode(text) for text in texts} == texts
    if reference.task == "generate":
        engine = ctranslate2.Generator(str(model.path), compute_type="float32")
        for run, expected in zip(reference.runs, reference.logits, strict=True):
            assert tokeniser.encode_prompt(run.text) == run.ids
            logits = engine.forward_batch([[tokeniser.tokens[i] for i in run.ids + fed(run)]])
            assert np.abs(np.asarray(logits)[0][-len(expected) :] - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["gemma3", "mistral"])
def test_no_context_is_longer_than_a_window(tmp_path: Path, name: str) -> None:
    """What attends to a window is served up to it; up to there the engine computes what transformers does."""
    network = NETWORKS[name]
    network = dataclasses.replace(network, settings={**network.settings, "sliding_window": 24})
    model, vocabulary = make_network(network, tmp_path / "checkpoint", seed=1)
    asked = ModelSource(path=tmp_path / "checkpoint", quantisation="float32")
    imported = import_model(ModelStore(tmp_path / "store"), asked, lambda done, total: None)
    assert imported.manifest.context_length == 24
    tokens = Tokeniser.load(imported).tokens
    ids = [1 if vocabulary.begin is None else vocabulary.begin, *vocabulary.encode(PROMPTS[0])][:24]
    assert len(ids) > 16
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    engine = ctranslate2.Generator(str(imported.path), compute_type="float32")
    logits = np.asarray(engine.forward_batch([[tokens[i] for i in ids]]))[0]
    assert np.abs(logits - expected).max() < 1e-4


TOLD: dict[str, dict[str, int]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 12},
    "gemma3": {"query_pre_attn_scalar": 12},
    "gpt2": {"n_positions": 128},
}
"""What transformers does not take from a GGUF file: it has the numbers of the models that everybody knows."""


@pytest.mark.parametrize("name", sorted(TOLD))
def test_transformers_reads_the_gguf_files_alike(name: str) -> None:
    """From the file that Headrace imports, transformers computes the logits that it computed from the checkpoint."""
    pytest.importorskip("accelerate")  # transformers wants it for that
    reference = read_reference(FOLDER / name)
    config = transformers.AutoConfig.from_pretrained(FOLDER / name, gguf_file="model.gguf")
    for key, value in TOLD[name].items():
        setattr(config, key, value)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER / name, gguf_file="model.gguf", dtype=torch.float32, config=config
    ).eval()
    for run, expected in zip(reference.runs, reference.logits, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([run.ids + fed(run)])).logits[0].numpy()
        assert np.abs(logits[-len(expected) :] - expected).max() < 1e-4


def test_our_own_gguf_files_are_llama_cpps(made: tuple[str, Path, Path]) -> None:
    """The tests' writer makes the tensors that llama.cpp's converter made: the same names, shapes and numbers."""
    name, folder, _ = made
    if name not in TOLD:
        pytest.skip("no GGUF")
    ours, theirs = (GgufFile(path / "model.gguf") for path in (folder, FOLDER / name))
    assert set(ours.tensor_names) == set(theirs.tensor_names)
    for tensor in ours.tensor_names:
        shape = theirs.shape(tensor)
        assert np.array_equal(ours.tensor(tensor, shape), theirs.tensor(tensor, shape)), tensor


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf", "nfkc", "identity"])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_sentencepiece_is_read_as_it_reads_itself(tmp_path: Path, rule: str, kind: str) -> None:
    """Whatever rule a vocabulary has for characters and spaces, tricky texts give SentencePiece's own tokens."""
    for spaces in (True, False):
        data = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TRAINING),
            model_writer=data,
            model_type=kind,
            vocab_size=400 if kind == "bpe" else 420,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name=rule,
            remove_extra_whitespaces=spaces,
            minloglevel=2,
            num_threads=1,
        )
        path = tmp_path / f"{spaces}.model"
        path.write_bytes(data.getvalue())
        theirs = sentencepiece.SentencePieceProcessor(model_proto=data.getvalue())
        ours = Tokeniser(tokeniser_of(read_piece_model(path)))
        for text in TRICKY:
            if "<" in text:
                continue  # special tokens are text here
            assert ours.encode(text) == theirs.encode(text), text
            assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))


def test_checkpoints_with_the_wrong_tensors(tmp_path: Path) -> None:
    """A tensor that is missing, of another shape, or one too many: named, where transformers would go on."""
    from safetensors.torch import load_file, save_file

    (tmp_path / "reference").mkdir()
    make("gptj", tmp_path / "reference", tmp_path / "sound")
    tensors = load_file(tmp_path / "sound/model.safetensors")
    name = "transformer.h.0.attn.q_proj.weight"
    missing = {key: value for key, value in tensors.items() if key != name}
    harmed = {
        "missing": (missing, BadCheckpoint, f"no tensor '{name}'"),
        "shape": (
            {**tensors, name: torch.zeros(3, 3)},
            BadCheckpoint,
            "cannot be converted|not of the shape",
        ),
        "more": (
            {**tensors, "transformer.h.0.attn.q_proj.bias": torch.zeros(3)},
            UnsupportedModel,
            "q_proj.bias",
        ),
    }
    for case, (changed, error, words) in harmed.items():
        folder = tmp_path / case
        shutil.copytree(tmp_path / "sound", folder)
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(error, match=words):
            import_model(ModelStore(tmp_path / "store"), ModelSource(path=folder), lambda done, total: None)
    (tmp_path / "sound/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadCheckpoint, match="cannot be converted"):
        import_model(ModelStore(tmp_path / "store"), ModelSource(path=tmp_path / "sound"), lambda a, b: None)
    assert list(ModelStore(tmp_path / "store").names()) == []


def test_a_vocabulary_that_is_too_large_or_too_small(tmp_path: Path) -> None:
    """Tokens without embeddings are refused; embeddings without tokens get tokens that no text has."""
    (tmp_path / "reference").mkdir()
    make("gptj", tmp_path / "reference", tmp_path / "sound")
    document = json.loads((tmp_path / "sound/tokenizer.json").read_text())
    merges, vocabulary = document["model"]["merges"], document["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    del vocabulary[last], merges[-1]
    (tmp_path / "sound/tokenizer.json").write_text(json.dumps(document))
    store = ModelStore(tmp_path / "store")
    model = import_model(store, ModelSource(path=tmp_path / "sound", name="padded"), lambda done, total: None)
    tokeniser = Tokeniser.load(model)
    assert len(tokeniser.tokens) == model.manifest.vocab_size
    assert tokeniser.token_bytes[-1] == b""
    vocabulary |= {last: len(vocabulary), "surplus": len(vocabulary) + 1}
    (tmp_path / "sound/tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(BadCheckpoint, match="its tokeniser has 321 tokens and its network 320"):
        import_model(store, ModelSource(path=tmp_path / "sound", name="large"), lambda done, total: None)
