"""Gradio components whose content is drawn by the app's own modules, from data, into text nodes.

``gr.HTML`` with templates is unsafe: Gradio runs the rendered template through a JavaScript template literal, so text
with ``${...}`` is executed even if Handlebars ``{{ }}`` escaped its markup. Here the template is a constant without
data. The script reads ``props.value`` and builds elements (``view/dom.js``).

The modules are one cached file (``pages.published``). A view is mounted once for its element, which Gradio keeps while
only values change.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from analysis.bundle import bundle
from pages.export import VIEW
from pages.published import publish

if TYPE_CHECKING:
    import gradio as gr

_EXPORTED = ("openFirst", "mountCompare", "mountAnalysis")
# The page may be served below a prefix; Gradio knows it. A value may come before the module or after it.
_LOAD = """
const root = (window.gradio_config && window.gradio_config.root) || new URL('.', document.baseURI);
const home = String(root).replace(/\\/$/, '');
const views = (window.mpViews ||= {});
let view = null;
const draw = () => { if (view) view.show(props.value); };
watch('value', draw);
import(home + '/@@MODULE@@').then((module) => {
  view = module.@@MOUNT@@(element.querySelector('.mp-view'), { setup: props.setup, home, trigger });
  views['@@ID@@'] = view;
  draw();
});
"""
_PASS_ON = """
const tell = () => { const view = (window.mpViews || {})['@@VIEW@@']; if (view) view.@@METHOD@@(props.value); };
watch('value', tell);
"""


@cache
def app_module() -> str:
    """Return the address of the module that holds all views of the app."""

    def text() -> str:
        return f"{bundle(VIEW / 'compare.js', VIEW / 'analysis.js')}\nexport {{ {', '.join(_EXPORTED)} }};\n"

    return publish("app.js", text(), text)


def view_component(elem_id: str, mount: str, **props: Any) -> gr.HTML:
    """Return an empty element that a view fills from the component's value; its events carry the view's data.

    Args:
        elem_id: Id of the element, by which a :func:`channel` finds the view.
        mount: Exported function of the module that creates the view.
        props: Other values that the view reads, such as ``setup``.
    """
    import gradio as gr

    js = _LOAD.replace("@@MODULE@@", app_module()).replace("@@MOUNT@@", mount).replace("@@ID@@", elem_id)
    return gr.HTML(
        value=None,
        html_template='<div class="mp-view"></div>',
        js_on_load=js,
        apply_default_css=False,
        elem_id=elem_id,
        padding=False,
        **props,
    )


def channel(elem_id: str, view: str, method: str) -> gr.HTML:
    """Return a hidden component whose value is passed to a method of a view."""
    import gradio as gr

    return gr.HTML(
        value=None,
        html_template="<span></span>",
        js_on_load=_PASS_ON.replace("@@VIEW@@", view).replace("@@METHOD@@", method),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="mp-offscreen",
        padding=False,
    )


def sent_by(event: gr.EventData) -> Mapping[str, Any]:
    """Return the data that a view sent with its event, unchecked; empty where it is no object."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
