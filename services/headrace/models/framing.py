"""What goes around the texts of a model that embeds or translates, as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.contract.errors import InvalidRequest
from headrace.models.errors import DamagedModel
from headrace.models.manifest import MANIFEST_NAME, SOURCE_LANGUAGE, TARGET_LANGUAGE, Manifest
from headrace.models.tokeniser import Tokeniser


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """Token ids before and after a text, and before an output. Empty for a model that generates."""

    tokeniser: Tokeniser
    source_prefix: tuple[int | str, ...]
    """A placeholder stands for a language's token."""
    source_suffix: tuple[int | str, ...]
    target_prefix: tuple[int | str, ...]
    languages: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, tokeniser: Tokeniser) -> Framing:
        """Raises DamagedModel where a token is none of the model's."""
        ids = {token: number for number, token in enumerate(tokeniser.tokens)}

        def number(token: str) -> int:
            if token not in ids:
                raise DamagedModel(manifest.name, MANIFEST_NAME, f"{token!r} is not in its vocabulary")
            return ids[token]

        def numbers(tokens: Sequence[str]) -> tuple[int | str, ...]:
            return tuple(
                token if token in (SOURCE_LANGUAGE, TARGET_LANGUAGE) else number(token) for token in tokens
            )

        return cls(
            tokeniser=tokeniser,
            source_prefix=numbers(manifest.source_prefix),
            source_suffix=numbers(manifest.source_suffix),
            target_prefix=numbers(manifest.target_prefix),
            languages={code: number(token) for code, token in manifest.languages.items()},
        )

    @property
    def sides(self) -> int:
        """Tokens that go around a text."""
        return len(self.source_prefix) + len(self.source_suffix)

    def texts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of texts to embed, each with what goes around it."""
        before, after = self._filled(self.source_prefix, {}), self._filled(self.source_suffix, {})
        return [(*before, *self.tokeniser.encode(text), *after) for text in texts]

    def translation(self, text: str, source: str, target: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids of a text to translate, with what goes around it, and those that its translation begins with.

        Raises InvalidRequest where the model needs a language that is not said, or does not know it.
        """
        languages = self._languages(source, target)
        before = self._filled(self.source_prefix, languages)
        after = self._filled(self.source_suffix, languages)
        prompt = (*before, *self.tokeniser.encode(text), *after)
        return prompt, self._filled(self.target_prefix, languages)

    def _languages(self, source: str, target: str) -> dict[str, int]:
        """The tokens by placeholder."""
        used = {*self.source_prefix, *self.source_suffix, *self.target_prefix}
        found = {}
        for field_name, word, placeholder in (
            ("source_language", source, SOURCE_LANGUAGE),
            ("target_language", target, TARGET_LANGUAGE),
        ):
            if placeholder not in used:
                if word and word not in self.languages:
                    raise InvalidRequest(field_name, "must be empty: the model does not choose by it")
            elif word not in self.languages:
                raise InvalidRequest(field_name, self._known(word))
            else:
                found[placeholder] = self.languages[word]
        return found

    def _known(self, word: str) -> str:
        some = ", ".join(sorted(self.languages)[:_SHOWN])
        more = f" … {len(self.languages)} in all" if len(self.languages) > _SHOWN else ""
        return f"{'is none of the model' if word else 'is needed'}; it knows {some}{more}"

    @staticmethod
    def _filled(tokens: tuple[int | str, ...], languages: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(token if isinstance(token, int) else languages[token] for token in tokens)


_SHOWN = 12
"""Languages in an error: a person sees how they are written."""
