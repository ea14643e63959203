"""How byte-level BPE vocabularies in GGUF files split a text before they merge: `tokenizer.ggml.pre`."""

from __future__ import annotations

from tokenizers import Regex, normalizers, pre_tokenizers

from headrace.models.errors import UnsupportedModel

_GPT2 = {"gpt-2", "mpt", "olmo", "jais"}
"""Names that mean: as GPT-2 splits."""
_DIGITS_ALONE = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}
"""Names that mean: each digit alone, the rest as GPT-2 splits."""
_WORDS = {
    # Up to how many digits stand together.
    "qwen2": r"\p{N}",
    "llama-bpe": r"\p{N}{1,3}",
}
"""Names that mean: as OpenAI's later models split, but for the digits. Source: the models' own tokenizer.json."""
_WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_COMPOSED = {"qwen2"}
"""Names that mean: characters are composed (NFC) first."""


def pre_tokeniser(name: str, *, leading_space: bool, what: str) -> pre_tokenizers.PreTokenizer:
    """What splits the way `name`. `what` is the file, for the error. Raises UnsupportedModel for an unknown name."""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=leading_space, use_regex=True)
    if name in _GPT2:
        return gpt2
    if name in _DIGITS_ALONE:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    if name in _WORDS:
        words = Regex(_WORD_PATTERN.replace("DIGITS", _WORDS[name]))
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(words, behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=leading_space, use_regex=False),
            ]
        )
    known = ", ".join(sorted(_GPT2 | _DIGITS_ALONE | set(_WORDS)))
    raise UnsupportedModel(what, f"its text is split the {name!r} way; known are {known}")


def normaliser(name: str) -> normalizers.Normalizer | None:
    """What is done to a text before it is split."""
    return normalizers.NFC() if name in _COMPOSED else None
