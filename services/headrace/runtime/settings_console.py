"""Settings of the console, the web page that shows the mesh."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from headrace.runtime.settings_processes import check_token
from headrace.runtime.settings_section import Host, Names, Port, Section


class ConsoleSettings(Section):
    """The console: where it listens, who may do more than look, and how many may look at once."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address that browsers dial. Whoever reaches it sees names of models, tenants and machines,"
        " though no prompt or output; so only this machine does by default.",
    )
    port: Port = Field(default=7780, description="Port that browsers dial; 0 takes any that is free.")
    token: Annotated[SecretStr, AfterValidator(check_token)] | None = Field(
        default=None,
        description="Who brings it as `authorization: Bearer` is an operator and may replay dead letters; the page"
        " asks for it. None: gateway.admin_token; without either the console only shows.",
    )
    hosts: Names = Field(
        default=(),
        description="Names that browsers reach it by, with commas between, such as a proxy's. Requests for others are"
        " refused, so that no foreign web page can read it through a name of its own. Empty: this machine's names"
        " while it listens on loopback only, and else any.",
    )
    max_clients: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Pages that are kept up to date at once. Further ones are told to try again.",
    )
