"""Gradio components whose content is drawn by our own scripts, from data, into text nodes.

Why not ``gr.HTML`` with templates: Gradio runs the rendered template through a JavaScript template literal, so text
that holds ``${...}`` is executed even where Handlebars ``{{ }}`` escaped its markup. Here the template is a constant
and never sees data; the script reads ``props.value`` and builds elements (``view/dom.js``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from pages.export import page_shell, script, view_js

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["comparison_view", "component", "gallery", "note", "stored_view", "suggestions"]


def component(
    js: str, elem_id: str, server_functions: list[Callable[..., Any]] | None = None, *, view: str = "mp-view"
) -> gr.HTML:
    """An empty element of class ``view``, and the script that fills it from its value."""
    import gradio as gr

    return gr.HTML(
        value=None,
        html_template=f'<div class="{view}"></div>',
        js_on_load=js,
        apply_default_css=False,
        server_functions=server_functions,
        elem_id=elem_id,
        padding=False,
    )


@cache
def _small_js(call: str) -> str:
    return (
        f"{script('dom.js')}\n{script('app.js')}\nconst root = element.querySelector('.mp-view');\n"
        f"const draw = () => {call};\nwatch('value', draw);\ndraw();"
    )


def exported_page(_arguments: Any = None) -> str:
    """The page that carries a comparison away; the script asks for it when a visitor downloads it."""
    return page_shell()


def comparison_view() -> gr.HTML:
    """Shows a comparison document."""
    js = (
        f"{view_js()}\nconst mounted_view = mountComparison(element.querySelector('.mp-view'), "
        f"{{ guide: true, shell: () => server.{exported_page.__name__}() }});\n"
        "const draw = () => mounted_view.show(props.value);\nwatch('value', draw);\ndraw();"
    )
    return component(js, "comparison", [exported_page])


def stored_view(elem_id: str) -> gr.HTML:
    """Shows a comparison document of a stored item, and nothing while there is none."""
    js = (
        f"{view_js()}\nconst root = element.querySelector('.mp-view');\n"
        f"const mounted_view = mountComparison(root, {{ shell: () => server.{exported_page.__name__}() }});\n"
        "const draw = () => { mounted_view.show(props.value); if (!props.value) root.replaceChildren(); };\n"
        "watch('value', draw);\ndraw();"
    )
    return component(js, elem_id, [exported_page])


def note(elem_id: str) -> gr.HTML:
    """A message: ``{"level": "ok" | "warning" | "error", "lines": [text]}`` or None."""
    return component(_small_js("showNote(root, props.value)"), elem_id)


def gallery(elem_id: str) -> gr.HTML:
    """Cards of examples; event ``select`` carries ``name``."""
    return component(_small_js("showGallery(root, props.value, (name) => trigger('select', { name }))"), elem_id)


def suggestions(elem_id: str) -> gr.HTML:
    """Questions to try; event ``select`` carries ``index``."""
    return component(_small_js("showSuggestions(root, props.value, (index) => trigger('select', { index }))"), elem_id)
