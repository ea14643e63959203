"""A model's chat template: messages to the text that the model was trained to continue."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2.exceptions import TemplateError, TemplateSyntaxError

from headrace.contract.errors import InvalidRequest
from headrace.models.errors import BadTemplate
from headrace.models.sandbox import Refused, TemplateEnvironment
from headrace.models.store import StoredModel
from headrace.models.template_budget import BUDGET_VARIABLE, Budget, BudgetSpent
from headrace.models.tokeniser import Message

ROLES = ("system", "user", "assistant", "tool")

MAX_SOURCE = 64 * 1024
"""Characters of a template. The longest of today's models have about 10,000."""

# What a rendering may cost: templates touch each message a few times, and the base covers their own text.
_BUDGET_BASE = 256 * 1024
_BUDGET_PER_MESSAGE = 8_000
_BUDGET_PER_CHARACTER = 32


class ChatTemplate:
    """A compiled template, in a sandbox, with a bound on time and memory. Safe to use from several threads."""

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        """`bos` and `eos` are the spellings that the template knows as bos_token and eos_token. Raises BadTemplate."""
        if len(source) > MAX_SOURCE:
            raise BadTemplate(f"{len(source)} characters long; the limit is {MAX_SOURCE}")
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = TemplateEnvironment().from_string(source)
        except TemplateSyntaxError as error:
            raise BadTemplate(f"line {error.lineno}: {error.message}") from error
        except TemplateError as error:
            raise BadTemplate(str(error)) from error
        except Exception as error:  # what is nested too deeply, or a number of thousands of digits
            raise BadTemplate(f"it cannot be compiled ({type(error).__name__})") from error

    @classmethod
    def of(cls, model: StoredModel) -> ChatTemplate | None:
        """The template of an installed model, or None where it has none. Raises BadTemplate."""
        manifest = model.manifest
        if manifest.chat_template is None:
            return None
        return cls(manifest.chat_template, bos=manifest.bos_token, eos=manifest.end_tokens[0])

    def __repr__(self) -> str:
        return f"ChatTemplate({len(self.source)} characters)"

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text of `messages`, and where `add_generation_prompt` the opening of the assistant's answer.

        Raises InvalidRequest for a role that does not exist, for messages that the template refuses (their order, say),
        and where it fails on them. No error quotes a message.
        """
        _check(messages)
        budget = _BUDGET_BASE + _BUDGET_PER_MESSAGE * len(messages)
        budget += _BUDGET_PER_CHARACTER * sum(len(content) for _, content in messages)
        variables = {
            "messages": [{"role": role, "content": content} for role, content in messages],
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
            **self._tokens,
            BUDGET_VARIABLE: Budget(budget),
        }
        try:
            return self._template.render(variables)
        except Refused as error:
            # Its words may be built from a message; only what stands in the template itself goes out.
            said = str(error)
            said = f": {said}" if said and said in self.source else ""
            raise InvalidRequest("messages", f"the model's chat template refuses them{said}") from None
        except BudgetSpent as error:
            raise InvalidRequest(
                "messages", f"the model's chat template cannot render them: {error}"
            ) from None
        except Exception as error:  # a template can fail in any way that Python can
            problem = f"the model's chat template fails on them ({type(error).__name__})"
            raise InvalidRequest("messages", problem) from None


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidRequest("messages", "must not be empty")
    for index, (role, _) in enumerate(messages):
        if role not in ROLES:
            raise InvalidRequest(f"messages[{index}].role", f"must be one of {', '.join(ROLES)}")
