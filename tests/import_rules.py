"""A kind of import contract that import-linter does not have: a package that imports nothing but what is listed."""

from __future__ import annotations

import grimp
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """`source`, with all below it, imports itself and the modules of `allowed`; what stands behind those is theirs."""

    type_name = "only"

    source = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Direct imports alone are looked at."""
        source, allowed = str(self.source), {str(name) for name in self.allowed}  # type: ignore[attr-defined]
        own = {source, *graph.find_descendants(source)}
        illegal = [
            f"{importer} -> {imported} (l.{', '.join(_lines(graph, importer, imported))})"
            for importer in sorted(own)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported not in own | allowed
        ]
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each import."""
        for line in check.metadata["illegal"]:
            output.print_error(f"- {line}", bold=False)
        output.new_line()


def _lines(graph: grimp.ImportGraph, importer: str, imported: str) -> list[str]:
    return [
        str(detail["line_number"])
        for detail in graph.get_import_details(importer=importer, imported=imported)
    ]
