"""Makes minilm_reference.json: what the model's own library makes of some texts. Needs torch and transformers.

python tests/models/make_minilm_reference.py FOLDER     of the model, as the package has it
"""

from __future__ import annotations

import base64
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

TEXTS = (
    "This is an example sentence",
    "Each sentence is converted",
    "naïve café — Ünïcödé",
    "東京タワー and 😀 emoji",
    "The token [SEP] is text here.",
    "  leading   and trailing spaces  ",
    "A man is eating food. " * 12,
)
"""The first two are those of the model's card, whose vectors are published."""


def main(folder: str) -> None:
    # Of the extra `convert`: not where everything else is checked.
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        tokens = tokenizer(text, return_tensors="pt", truncation=False, split_special_tokens=True)
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state[0].mean(0)
        vector = (mean / mean.norm()).numpy().astype("<f4")
        found.append(
            {
                "text": text,
                "token_ids": tokens["input_ids"][0].tolist(),
                "vector": base64.b64encode(vector.tobytes()).decode(),
            }
        )
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in found)
    Path(__file__).with_name("minilm_reference.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
