"""ES modules of the views as one script: a tiny concatenator, so that no build tool is needed.

Modules import by name from files at relative paths (``import { h } from "./dom.js";``) and export declarations
(``export function``, ``export const``, ``export class``). Files are joined in the order in which they need each other,
each name of a top-level declaration may occur once among them, and nothing is renamed.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["bundle"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[\w./-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
_DECLARED = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+|\[[^\]]*\])", re.MULTILINE)


@cache
def bundle(*paths: Path) -> str:
    """Join modules and all that they import to one script.

    Args:
        paths: The modules; what they import is found from them.

    Returns:
        Plain script text in which every export is a global name.

    Raises:
        ValueError: Two modules declare one name, import each other in a circle, or import in a form that is not known.
    """
    order: list[Path] = []

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        path = path.resolve()
        if path in above:
            raise ValueError(f"modules import each other: {' -> '.join(one.name for one in (*above, path))}")
        if path in order:
            return
        for needed in _IMPORT.findall(path.read_text(encoding="utf-8")):
            visit(path.parent / needed, (*above, path))
        order.append(path)

    for path in paths:
        visit(path, ())
    owners: dict[str, str] = {}
    parts = []
    for path in order:
        text = path.read_text(encoding="utf-8")
        for declared in _DECLARED.findall(text):
            for word in re.findall(r"\w+", declared):
                if (other := owners.setdefault(word, path.name)) != path.name:
                    raise ValueError(f"{path.name} and {other} both declare {word}")
        plain = _EXPORT.sub("", _IMPORT.sub("", text)).replace("// @ts-check\n", "")
        if re.search(r"^(import|export)\b", plain, re.MULTILINE):
            raise ValueError(f"{path.name} imports or exports in a form that the concatenator does not know")
        parts.append(plain)
    return "\n".join(parts)
