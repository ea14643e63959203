from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from ctranslate2.specs import common_spec

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_import import import_gguf
from headrace.models.gguf_tensors import Quantisation, quantise_rows
from headrace.models.manifest import Manifest
from headrace.models.tokeniser import Tokeniser
from tests.models.tiny_gguf import CHATML, TOKENS, Array, TinyLlama

IDS = [5, 40, 41, 7, 120, 200, 3, 3, 99, 14, 260, 17]


def convert(path: Path, folder: Path, quantisation: Quantisation = "float32") -> Manifest:
    folder.mkdir()
    return import_gguf(
        path,
        folder,
        name="tiny",
        source="test",
        licence="none",
        progress=lambda done, total: None,
        quantisation=quantisation,
    )


def engine_logits(folder: Path) -> Array:
    model = ctranslate2.Generator(str(folder), device="cpu", compute_type="float32", intra_threads=1)
    logits: Array = np.asarray(model.forward_batch([[TOKENS[i] for i in IDS]]))[0]
    return logits


@pytest.mark.parametrize(
    "shape",
    [
        {"kv_heads": 2, "tied": True},
        {"kv_heads": 4, "tied": False},
        {"kv_heads": 1, "tied": True, "rope_base": 100_000.0},
        {"heads": 3, "kv_heads": 3, "head_dim": 8, "layers": 1, "epsilon": 1e-2},
    ],
    ids=["grouped-tied", "full-untied", "one-kv-head", "odd-heads"],
)
def test_the_engine_computes_what_the_network_means(tmp_path: Path, shape: dict[str, Any]) -> None:
    """The engine's logits on the converted file are those of a plain numpy forward pass: no weight is misplaced."""
    tiny = TinyLlama.random(**shape)
    convert(tiny.write(tmp_path / "tiny.gguf"), tmp_path / "model")
    expected = tiny.logits(IDS)
    assert np.abs(engine_logits(tmp_path / "model") - expected).max() < 1e-4 * np.abs(expected).max()


def test_rows_left_in_llama_cpp_order_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without putting query and key rows back the logits differ: the test above can see a wrong order."""
    monkeypatch.setattr("headrace.models.gguf_tensors.halves_from_pairs", lambda rows, heads: rows)
    tiny = TinyLlama.random()
    convert(tiny.write(tmp_path / "tiny.gguf"), tmp_path / "model")
    expected = tiny.logits(IDS)
    assert np.abs(engine_logits(tmp_path / "model") - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize(("kind", "worst"), [("F16", 0.01), ("Q8_0", 0.1), ("Q4_1", 0.8)])
def test_quantised_files_are_dequantised(tmp_path: Path, kind: str, worst: float) -> None:
    """A quantised file gives nearly the logits of the original weights."""
    tiny = TinyLlama.random()
    convert(tiny.write(tmp_path / "tiny.gguf", kind=kind), tmp_path / "model")
    expected = tiny.logits(IDS)
    assert np.abs(engine_logits(tmp_path / "model") - expected).max() < worst * np.abs(expected).max()


def test_int8_is_ctranslate2s_own(tmp_path: Path) -> None:
    """Quantising row by row as we read gives bit for bit what CTranslate2's optimiser gives."""
    values = np.random.default_rng(1).normal(size=(40, 33)).astype(np.float32)
    values[3] = 0
    values[4] = 1e-38
    layer = common_spec.LinearSpec()
    layer.weight = values.copy()
    layer.validate()
    layer.optimize(quantization="int8")
    weight, scale = quantise_rows(values.copy())
    assert np.array_equal(layer.weight.numpy(), weight)
    assert np.array_equal(layer.weight_scale.numpy(), scale)


def test_int8_stays_close(tmp_path: Path) -> None:
    """The int8 model gives nearly the logits of the original, and is smaller than float32."""
    tiny = TinyLlama.random()
    path = tiny.write(tmp_path / "tiny.gguf")
    convert(path, tmp_path / "model", "int8")
    convert(path, tmp_path / "float", "float32")
    expected = tiny.logits(IDS)
    assert np.abs(engine_logits(tmp_path / "model") - expected).max() < 0.1 * np.abs(expected).max()
    int8, float32 = ((tmp_path / f / "model.bin").stat().st_size for f in ("model", "float"))
    assert int8 < 0.4 * float32


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    """A tied projection is an alias: the file holds one copy of the matrix."""
    tied, untied = TinyLlama.random(tied=True), TinyLlama.random(tied=False)
    convert(tied.write(tmp_path / "tied.gguf"), tmp_path / "tied")
    convert(untied.write(tmp_path / "untied.gguf"), tmp_path / "untied")
    sizes = [(tmp_path / f / "model.bin").stat().st_size for f in ("tied", "untied")]
    assert sizes[1] - sizes[0] > 0.95 * len(TOKENS) * tied.width * 4


def test_the_manifest_says_what_the_model_is(tmp_path: Path) -> None:
    """Limits, end tokens, template and dimensions come from the file's metadata."""
    tiny = TinyLlama.random()
    manifest = convert(tiny.write(tmp_path / "tiny.gguf"), tmp_path / "model", "int8")
    assert manifest == Manifest(
        name="tiny",
        engine="ctranslate2",
        architecture="llama",
        context_length=128,
        vocab_size=len(TOKENS),
        end_token_ids=(2, 0),
        end_tokens=("<|im_end|>", "<|endoftext|>"),
        bos_token_id=1,
        bos_token="<|im_start|>",
        add_bos=False,
        chat_template=CHATML,
        quantisation="int8",
        parameters=sum(w.size for w in tiny.weights.values()),
        layers=2,
        heads=4,
        head_dim=16,
        source="test",
        licence="none",
    )


def test_engine_and_tokeniser_share_one_vocabulary(tmp_path: Path) -> None:
    """Token strings are the same, in the same order, in the engine's vocabulary and in the tokeniser."""
    convert(TinyLlama.random().write(tmp_path / "tiny.gguf"), tmp_path / "model")
    vocabulary = json.loads((tmp_path / "model/vocabulary.json").read_text())
    assert list(Tokeniser.load(tmp_path / "model").tokens) == vocabulary == TOKENS


def test_progress_counts_every_tensor(tmp_path: Path) -> None:
    """Progress rises by one and ends at the number of tensors."""
    tiny = TinyLlama.random()
    (tmp_path / "model").mkdir()
    seen: list[tuple[int, int]] = []
    import_gguf(
        tiny.write(tmp_path / "tiny.gguf"),
        tmp_path / "model",
        name="tiny",
        source="test",
        licence="none",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(n, len(tiny.weights)) for n in range(1, len(tiny.weights) + 1)]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"llama__rope__scaling__type": "linear"}, "scaled rotary embeddings (linear)"),
        ({"llama__rope__scaling__type": "yarn"}, "yarn"),
        ({"llama__expert_count": 4}, "mixture of experts"),
        ({"llama__rope__dimension_count": 8}, "part of each head"),
        ({"llama__attention__key_length": 32}, "cover a part of each head|not as wide"),
        ({"tokenizer__ggml__model": "bert"}, "tokeniser 'bert'; known are byte-level BPE"),
        ({"tokenizer__ggml__pre": "porridge"}, "the 'porridge' way"),
    ],
)
def test_what_would_go_wrong_silently_is_refused(
    tmp_path: Path, metadata: dict[str, Any], reason: str
) -> None:
    """A model that the engine would compute wrongly is refused with the reason."""
    path = TinyLlama.random().write(tmp_path / "tiny.gguf", **metadata)
    with pytest.raises(UnsupportedModel) as caught:
        convert(path, tmp_path / "model")
    assert any(part in caught.value.reason for part in reason.split("|"))


def test_llama3_rope_and_unknown_tensors_are_refused(tmp_path: Path) -> None:
    """Factors of 'llama3' rotation, and tensors that no plain Llama has, are refused by name."""
    tiny = TinyLlama.random()
    tiny.weights["rope_freqs"] = np.ones(8)
    with pytest.raises(UnsupportedModel, match="llama3"):
        convert(tiny.write(tmp_path / "rope.gguf"), tmp_path / "a")
    del tiny.weights["rope_freqs"]
    tiny.weights["blk.0.attn_q_norm"] = np.ones(16)
    with pytest.raises(UnsupportedModel, match=r"blk\.0\.attn_q_norm"):
        convert(tiny.write(tmp_path / "norm.gguf"), tmp_path / "b")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    """Only Llama-family files are converted."""
    path = TinyLlama.random().write(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    assert data.count(b"\x05\0\0\0\0\0\0\0llama") == 1
    path.write_bytes(data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gemma"))
    with pytest.raises(UnsupportedModel, match="'gemma'"):
        convert(path, tmp_path / "model")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"llama__context_length": None}, "llama.context_length"),
        ({"llama__context_length": "many"}, "not of type int"),
        ({"llama__attention__head_count": 5}, "do not divide"),
        ({"llama__attention__head_count_kv": 3}, "cannot share"),
        ({"tokenizer__ggml__eos_token_id": 100_000}, "outside the vocabulary"),
        ({"tokenizer__ggml__eos_token_id": None}, "no end token"),
        ({"tokenizer__ggml__token_type": [1, 1]}, "token types"),
        ({"tokenizer__ggml__merges": ["q q"]}, "do not fit together"),
        ({"tokenizer__ggml__tokens": ["a", "a"]}, "twice"),
        ({"llama__block_count": 3}, "no tensor 'blk.2."),
        ({"llama__feed_forward_length": 64}, "shape"),
    ],
)
def test_metadata_that_contradicts_itself_is_named(
    tmp_path: Path, metadata: dict[str, Any], reason: str
) -> None:
    """Missing, mistyped or contradictory metadata is an error that says what is wrong."""
    path = TinyLlama.random().write(tmp_path / "tiny.gguf", **metadata)
    with pytest.raises(BadGguf) as caught:
        convert(path, tmp_path / "model")
    assert reason in caught.value.reason


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_an_error(tmp_path: Path, share: float) -> None:
    """Wherever the file ends too early, the error says so."""
    path = TinyLlama.random().write(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    path.write_bytes(data[: max(4, int(len(data) * share))])
    with pytest.raises(BadGguf, match="truncated"):
        convert(path, tmp_path / "model")


def test_what_is_no_gguf_is_an_error(tmp_path: Path) -> None:
    """Another file, an empty one and a missing one are told apart."""
    path = tmp_path / "x.gguf"
    with pytest.raises(BadGguf, match="No such file"):
        convert(path, tmp_path / "a")
    path.write_bytes(b"")
    with pytest.raises(BadGguf, match="empty"):
        convert(path, tmp_path / "b")
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BadGguf, match="not a GGUF file"):
        convert(path, tmp_path / "c")
