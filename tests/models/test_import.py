"""`headrace model import`: what it takes, what it refuses, and that the store is left as it was."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from typer.testing import CliRunner, Result

from headrace.cli.model import app
from headrace.models.checkpoint import read_checkpoint
from headrace.models.errors import BadCheckpoint, UnsupportedModel
from headrace.models.gguf_import import import_gguf
from headrace.models.importing import name_of
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.models.tokeniser_files import read_tokeniser
from tests.models.references.reference import FOLDER as REFERENCES
from tests.models.tiny_gguf import TinyLlama


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store named by the environment, an empty working folder, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")


def run_import(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def assert_refused(result: Result, store: ModelStore, *words: str, code: int = 1) -> None:
    """It ended with `code` and one line that holds `words`, and the store is empty but for locks."""
    assert result.exit_code == code
    lines = [line for line in result.stderr.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[0]
    left = (
        [p for p in store.root.rglob("*") if p.is_file() and ".locks" not in p.parts]
        if store.root.exists()
        else []
    )
    assert left == []


@pytest.fixture
def engine_folder(tmp_path: Path) -> Path:
    """A CTranslate2 folder, BLOOM's, as a converter leaves it: no manifest of ours."""
    folder = tmp_path / "Tiny_Bloom v1"
    shutil.copytree(REFERENCES / "bloom", folder)
    for name in ("manifest.json", "reference.json", "reference.npz"):
        (folder / name).unlink()
    return folder


def test_a_gguf_file_is_imported(tiny_gguf: Path, store: ModelStore) -> None:
    """Named for its file, int8 unless another is asked for, and whole."""
    shutil.copy(tiny_gguf, "My.Tiny Model.gguf")
    assert run_import("My.Tiny Model.gguf").exit_code == 0
    result = run_import(
        "My.Tiny Model.gguf", "--name", "other", "--quantization", "float16", "--licence", "MIT"
    )
    assert "other" in result.stderr
    assert "is ready" in result.stderr
    assert "tensors" in result.stderr
    first, second = (store.verify(name).manifest for name in ("my-tiny-model", "other"))
    assert (first.quantisation, first.licence, first.source) == ("int8", "unknown", "file:My.Tiny Model.gguf")
    assert (second.quantisation, second.licence) == ("float16", "MIT")


def test_a_folder_with_one_gguf_file_is_that_file(tiny_gguf: Path, store: ModelStore, tmp_path: Path) -> None:
    """As downloads often are; with two, one has to be named."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    shutil.copy(tiny_gguf, folder / "a.gguf")
    assert run_import(folder).exit_code == 0
    assert list(store.names()) == ["a"]
    store.remove("a")
    shutil.copy(tiny_gguf, folder / "b.gguf")
    assert_refused(run_import(folder), store, "source", "2 GGUF files", code=2)


def test_an_engine_folder_is_imported_as_it_is(engine_folder: Path, store: ModelStore) -> None:
    """The same bytes; what the format does not say comes from the files beside it, or from the person."""
    assert_refused(run_import(engine_folder), store, "--context-length")
    assert run_import(engine_folder, "--context-length", 96).exit_code == 0
    model = store.verify("tiny_bloom-v1")
    assert (model.path / "model.bin").read_bytes() == (engine_folder / "model.bin").read_bytes()
    manifest = model.manifest
    assert (manifest.task, manifest.context_length, manifest.quantisation) == ("generate", 96, "float16")
    assert (manifest.layers, manifest.heads, manifest.head_dim) == (2, 4, 8)
    assert manifest.end_tokens == ("<|endoftext|>",)
    assert len(Tokeniser.load(model).tokens) == manifest.vocab_size


def test_context_and_template_come_from_the_files_beside_it(engine_folder: Path, store: ModelStore) -> None:
    """tokenizer_config.json's longest text and chat template, and generation_config.json's ends."""
    settings = {"model_max_length": 77, "chat_template": "{{ messages[0].content }}"}
    (engine_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (engine_folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 5]}))
    assert run_import(engine_folder).exit_code == 0
    manifest = store.open("tiny_bloom-v1").manifest
    assert (manifest.context_length, manifest.chat_template) == (77, "{{ messages[0].content }}")
    assert manifest.end_token_ids == (0, 5)


def test_a_model_of_another_store_keeps_its_manifest(
    tiny_gguf: Path, store: ModelStore, tmp_path: Path
) -> None:
    """An installed model's folder is one to import from; its files have to be what its manifest says."""
    assert run_import(tiny_gguf, "--name", "first").exit_code == 0
    folder = tmp_path / "carried"
    shutil.copytree(store.open("first").path, folder)
    assert run_import(folder, "--name", "second").exit_code == 0
    first, second = (store.verify(name).manifest for name in ("first", "second"))
    assert second.chat_template == first.chat_template
    assert second.version == first.version
    with (folder / "model.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    result = run_import(folder, "--name", "third")
    assert result.exit_code == 1
    assert "model.bin is not what its manifest says" in result.stderr


def test_a_name_that_is_taken(tiny_gguf: Path, store: ModelStore) -> None:
    """Nothing is replaced but with --force."""
    assert run_import(tiny_gguf).exit_code == 0
    before = store.open("tiny").manifest
    result = run_import(tiny_gguf, "--quantization", "float32")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert store.verify("tiny").manifest == before
    assert run_import(tiny_gguf, "--quantization", "float32", "--force").exit_code == 0
    assert store.verify("tiny").manifest.quantisation == "float32"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.gguf"], ["source", "nowhere.gguf does not exist"]),
        (["tiny.gguf", "--name", "a.b"], ["name", "'a.b'"]),
        (["tiny.gguf", "--quantization", "int3"], ["quantization", "'int3'", "int8, float16, float32"]),
        (["tiny.gguf", "--context-length", "5"], ["context-length", "says itself"]),
    ],
)
def test_what_was_asked_for_wrongly(
    tiny_gguf: Path, store: ModelStore, arguments: list[str], words: list[str]
) -> None:
    """Exit code 2, and the option that is at fault."""
    shutil.copy(tiny_gguf, "tiny.gguf")
    assert_refused(run_import(*arguments), store, *words, code=2)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def wrong_magic(data: bytes) -> bytes:
    return b"GGML" + data[4:]


def old_version(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", 99) + data[8:]


def unknown_type(data: bytes) -> bytes:
    at = data.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    return data[:at] + struct.pack("<I", 777) + data[at + 4 :]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut, "damaged or truncated"),
        (lambda data: data[:20], "damaged or truncated"),
        (lambda data: b"", "the file is empty"),
        (wrong_magic, "not a GGUF file"),
        (old_version, "version 99; known are 2 and 3"),
        (unknown_type, "'output_norm.weight' is of the unknown type 777"),
    ],
    ids=["cut", "header only", "empty", "magic", "version", "tensor type"],
)
def test_damaged_gguf_files(
    tiny_gguf: Path, store: ModelStore, harm: Callable[[bytes], bytes], words: str
) -> None:
    """A line that says what is wrong, and nothing in the store."""
    Path("bad.gguf").write_bytes(harm(tiny_gguf.read_bytes()))
    assert_refused(run_import("bad.gguf"), store, "bad.gguf", words)


def test_one_of_several_parts(store: ModelStore) -> None:
    """A part of a split file is refused, with what to do."""
    TinyLlama.random().write(Path("part.gguf"), split__count=3)
    assert_refused(run_import("part.gguf"), store, "one of several parts", "join them")


def test_a_vocabulary_that_does_not_match(store: ModelStore) -> None:
    """More tokens than embeddings: refused before anything is computed."""
    tiny = TinyLlama.random()
    tiny.weights["token_embd"] = tiny.weights["token_embd"][:-2]
    tiny.write(Path("short.gguf"))
    assert_refused(run_import("short.gguf"), store, "tokens and its embeddings")


def test_weights_that_no_library_dequantises(store: ModelStore) -> None:
    """A type that GGUF has and nobody here can read is named, with the tensor."""
    tiny = TinyLlama.random()
    path = tiny.write(Path("odd.gguf"))
    data = path.read_bytes()
    at = data.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    kind = struct.pack("<I", gguf.GGMLQuantizationType.I32)
    path.write_bytes(data[:at] + kind + data[at + 4 :])
    assert_refused(run_import("odd.gguf"), store, "output_norm.weight", "I32", "cannot be de-quantised")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}",
            "too long",
        ),
        (
            "{{ messages.__class__.__mro__ }}{{ messages.__class__.__subclasses__() }}",
            "a greeting cannot be rendered",
        ),
        ("{% include '/etc/passwd' %}", "'Include' in line 1 is not allowed"),
        ("{% for m in messages %}", "line 1"),
        ("{{ raise_exception('never') }}", "refuses them: never"),
        ("x" * 70_000, "the limit is 65536"),
    ],
    ids=["loops", "attributes", "files", "syntax", "refuses", "long"],
)
def test_chat_templates_that_cannot_be_used(store: ModelStore, template: str, words: str) -> None:
    """Refused before anything is computed; without its template the model is imported all the same."""
    TinyLlama.random().write(Path("odd.gguf"), tokenizer__chat_template=template)
    assert_refused(run_import("odd.gguf"), store, "chat template", words, "--no-template")
    assert run_import("odd.gguf", "--no-template").exit_code == 0
    assert store.open("odd").manifest.chat_template is None


def test_no_room_on_the_disk(tiny_gguf: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is seen before anything is computed, with both numbers."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    assert_refused(run_import(tiny_gguf), store, "about 34 MB are needed", "0 MB left")


def test_a_disk_that_fills_up_meanwhile(tiny_gguf: Path, store: ModelStore) -> None:
    """A write that fails ends in a line, and leaves nothing half done."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "from headrace.cli.model import app\n"
        f"app(['import', {str(tiny_gguf)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "headrace: model store" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p for p in store.root.rglob("*") if p.is_file() and ".locks" not in p.parts] == []


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "model.bin").write_bytes(b"\x06\0\0\0"), "damaged or truncated"),
        (
            lambda folder: (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:-2000]),
            "damaged or truncated",
        ),
        (lambda folder: (folder / "model.bin").write_bytes(b"PK\x03\x04" * 9), "no CTranslate2 model"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "no vocabulary"),
        (lambda folder: (folder / "vocabulary.json").write_text("{"), "vocabulary.json cannot be read"),
        (lambda folder: (folder / "vocabulary.json").write_text('["a", "b"]'), "tokens and its network"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "it has no tokeniser"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be read as a tokeniser"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: (folder / "config.json").write_text("{}"), "end token"),
    ],
)
def test_damaged_engine_folders(
    engine_folder: Path, store: ModelStore, harm: Callable[[Path], object], words: str
) -> None:
    """A line that says which file is at fault, and nothing in the store."""
    harm(engine_folder)
    assert_refused(run_import(engine_folder, "--context-length", 96), store, words)


def test_a_vocabulary_of_another_model(engine_folder: Path, store: ModelStore) -> None:
    """The engine's tokens and the tokeniser's are compared, one by one."""
    path = engine_folder / "vocabulary.json"
    tokens = json.loads(path.read_text())
    tokens[40], tokens[41] = tokens[41], tokens[40]
    path.write_text(json.dumps(tokens))
    assert_refused(run_import(engine_folder, "--context-length", 96), store, "token 40 is")


def write_checkpoint(folder: Path, **config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8}}, "(llama3) wrongly"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}}, "(llama3) wrongly"),
        ({"model_type": "gemma2"}, "Gemma 2"),
        ({"model_type": "phi"}, "Phi"),
        ({"model_type": "phi3"}, "Phi-3"),
        ({"model_type": "gpt_neox"}, "GPT-NeoX"),
        ({"model_type": "rwkv"}, "model type 'rwkv'; known are"),
        ({}, "model type ''"),
        ({"model_type": "bloom", "quantization_config": {"bits": 4}}, "weights are quantised"),
        ({"model_type": "falcon", "rope_theta": 500_000.0}, "another base"),
        ({"model_type": "llama", "attention_bias": True}, "biases"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "window"),
        (
            {"model_type": "gemma3_text", "query_pre_attn_scalar": 168, "head_dim": 128},
            "scale its queries wrongly",
        ),
    ],
)
def test_checkpoints_that_would_be_wrong(tmp_path: Path, config: dict[str, object], reason: str) -> None:
    """Refused with the reason, by config.json alone: no torch is needed to say so."""
    with pytest.raises(UnsupportedModel) as caught:
        read_checkpoint(write_checkpoint(tmp_path / "it", **config))
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "llama", "hidden_size": "wide"}, "'hidden_size' in config.json is no whole number"),
        ({"model_type": "llama", "num_attention_heads": 1 << 40}, "'num_attention_heads' in config.json"),
        ({"model_type": "llama", "head_dim": [64]}, "'head_dim' in config.json"),
        ({"model_type": "falcon", "rope_theta": "10k"}, "'rope_theta' in config.json is no number"),
    ],
)
def test_checkpoints_with_numbers_of_another_kind(
    tmp_path: Path, config: dict[str, object], reason: str
) -> None:
    """The key is named, and what it should hold."""
    with pytest.raises(BadCheckpoint) as caught:
        read_checkpoint(write_checkpoint(tmp_path / "it", **config))
    assert reason in caught.value.reason


def test_a_checkpoint_that_claims_billions_of_tokens(tmp_path: Path) -> None:
    """Some hundred embeddings may lack a token; nothing is made for as many as a damaged number says."""
    folder = write_checkpoint(tmp_path / "it", model_type="bloom", vocab_size=(1 << 31) - 1)
    shutil.copy(REFERENCES / "bloom/tokenizer.json", folder)
    with pytest.raises(BadCheckpoint, match="its tokeniser has 320 tokens and its network 2147483647"):
        read_tokeniser(folder, read_checkpoint(folder).vocabulary)


def test_checkpoints_that_lack_something(tmp_path: Path) -> None:
    """No weights, no config.json: what is missing is named."""
    folder = write_checkpoint(tmp_path / "it", model_type="gpt2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="no weights"):
        read_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"no config\.json"):
        read_checkpoint(folder)


def test_a_checkpoint_needs_the_extra(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without torch a sound Hugging Face folder is refused with what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = write_checkpoint(
        tmp_path / "it",
        model_type="bloom",
        vocab_size=320,
        n_layer=2,
        n_head=4,
        hidden_size=32,
        eos_token_id=0,
    )
    shutil.copy(REFERENCES / "bloom/tokenizer.json", folder)
    assert_refused(run_import(folder), store, "the extra 'convert'", "pip install 'headrace[convert]'")


def test_names_that_follow_from_files(tmp_path: Path) -> None:
    """Lower case; what a name may not have becomes a dash."""
    (tmp_path / "Llama-2 7B.Q4_K_M.gguf").touch()
    assert name_of(tmp_path / "Llama-2 7B.Q4_K_M.gguf") == "llama-2-7b-q4_k_m"
    assert name_of(Path("/models/opus-mt-en-fr/")) == "opus-mt-en-fr"
    assert name_of(Path("/models/***")) == "model"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Importing keeps one tensor at a time: ten more layers take no more memory to speak of."""
    peaks = []
    for layers in (2, 12):
        path = TinyLlama.random(layers=layers, heads=8, head_dim=32, kv_heads=8, inner=2048).write(
            tmp_path / f"{layers}.gguf"
        )
        code = (
            "import sys, tracemalloc\n"
            "from pathlib import Path\n"
            "from headrace.models.gguf_import import import_gguf\n"
            "tracemalloc.start()\n"
            f"import_gguf(Path({str(path)!r}), Path(sys.argv[1]), name='x', source='', licence='',"
            " progress=lambda a, b: None, quantisation='float32')\n"
            "print(tracemalloc.get_traced_memory()[1])"
        )
        folder = tmp_path / str(layers)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout))
    assert (tmp_path / "12/model.bin").stat().st_size > 80_000_000
    assert peaks[1] < peaks[0] + 4_000_000


def test_the_library_entry_has_the_same_words(tiny_gguf: Path, tmp_path: Path) -> None:
    """A pulled model and an imported one are made by the same code: equal files, equal version."""
    folder = tmp_path / "made"
    folder.mkdir()
    import_gguf(tiny_gguf, folder, name="a", source="", licence="", progress=lambda done, total: None)
    assert run_import(tiny_gguf, "--name", "b").exit_code == 0
    imported = ModelStore(tmp_path / "store").open("b").path
    assert (imported / "model.bin").read_bytes() == (folder / "model.bin").read_bytes()
