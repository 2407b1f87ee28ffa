"""ES modules of the views as one script: a tiny concatenator, so that no build tool is needed.

Modules import by name from files at relative paths (``import { h } from "./dom.js";``) and export declarations
(``export function``, ``export const``, ``export class``). Files are joined in the order of their imports. Nothing is
renamed, so each top-level name may occur only once.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[\w./-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
_DECLARATION = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+|\[[^\]]*\])", re.MULTILINE)


@cache
def bundle(*paths: Path) -> str:
    """Join modules and all that they import to one script.

    Returns:
        Plain script text in which every export is a global name.

    Raises:
        ValueError: Two modules declare one name, import each other in a circle, or use an unsupported form of import.
    """
    order: list[Path] = []

    def visit(path: Path, ancestors: tuple[Path, ...]) -> None:
        path = path.resolve()
        if path in ancestors:
            raise ValueError(f"modules import each other: {' -> '.join(module.name for module in (*ancestors, path))}")
        if path in order:
            return
        for imported in _IMPORT.findall(path.read_text(encoding="utf-8")):
            visit(path.parent / imported, (*ancestors, path))
        order.append(path)

    for path in paths:
        visit(path, ())
    owners: dict[str, str] = {}
    scripts = []
    for path in order:
        text = path.read_text(encoding="utf-8")
        for declaration in _DECLARATION.findall(text):
            for name in re.findall(r"\w+", declaration):
                if (owner := owners.setdefault(name, path.name)) != path.name:
                    raise ValueError(f"{path.name} and {owner} both declare {name}")
        script = _EXPORT.sub("", _IMPORT.sub("", text)).replace("// @ts-check\n", "")
        if re.search(r"^(import|export)\b", script, re.MULTILINE):
            raise ValueError(f"{path.name} imports or exports in a form that the concatenator does not know")
        scripts.append(script)
    return "\n".join(scripts)
