"""Whether a chat template can be used, asked before a model is imported with it."""

from __future__ import annotations

from headrace.contract.errors import InvalidRequest
from headrace.models.errors import BadTemplate
from headrace.models.template import ChatTemplate

_GREETING = (("user", "Hello"),)
"""What every template for chats has to render."""
_REMEDY = "; --no-template imports the model without it, for plain prompts only"


def check_template(source: str | None, bos: str, end: str) -> None:
    """Raises BadTemplate for a template that does not parse, reaches for what it may not, or fails on a greeting."""
    if source is None:
        return
    try:
        ChatTemplate(source, bos=bos, eos=end).render(_GREETING)
    except BadTemplate as error:
        raise BadTemplate(error.reason + _REMEDY) from error
    except InvalidRequest as error:
        raise BadTemplate(f"a greeting cannot be rendered: {error.problem}" + _REMEDY) from error
