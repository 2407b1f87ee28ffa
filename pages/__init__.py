"""The pages of the app: ``build_app(services)`` composes the tabs, ``launch_settings()`` returns the server settings.

``options``      options of the app                      ``compare``   the Compare tab
``services``     engine, checkpoints, limits, examples   ``store``, ``store_run``   commands that store comparisons
``running``      one comparison as a stream              ``api``       endpoints for programs
``document``     the comparison as JSON data             ``schema``      its schema
``units``        passages and words of a trace           ``claims``    claims of a trace by sound
``attention_view``  attention as it is drawn             ``attention_pack``   stored attention, packed arrays
``export``       the comparison as a page of its own
``published``    files that are served beside Gradio's   ``safe_html``  components drawn without HTML
``first_screen`` the Compare tab before Gradio is loaded                          ``occluding``   occlusion of an arm
``examples``     clips, questions, stored comparisons    ``errors``    messages to visitors
``analysis``     the Analysis tab                        ``analysis_runs``   its runs, shipped or uploaded
``analysis_process``  the child process of its work      ``analysis_figures``  its figures, items and points
``analysis_items``  its table of items                   ``spectrogram``  the picture of a clip
``gate``         requests refused before they are read   ``limits``    limits of one visitor, store of visitors' data
``scoring``      CAFE of a comparison                    ``opinion``   events that a tagger detects in a clip
``stored_item``  answers of a run as a comparison        ``results``     comparisons that visitors store
``batch``        several clips at once, as a run         ``gpu``         GPUs that a Space lends by the minute
``line``         order of the queues
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

    from pages.services import Services

_FOLDER = Path(__file__).resolve().parent
_HEAD = """
<header class="mp-brand"><h1>MPAR²</h1><p>Do audio models perceive less as they reason?
<span>Compare them on your own sound.</span></p></header>
"""


def build_app(services: Services) -> gr.Blocks:
    """Return the whole app. Nothing is loaded before the first request."""
    import gradio as gr

    from pages.analysis import build_analysis
    from pages.analysis_runs import Shelf
    from pages.api import build_api
    from pages.compare import build_compare
    from pages.gate import refuse_downloads, word_input_errors
    from pages.line import take_turns

    refuse_downloads()
    shelf = Shelf()
    with gr.Blocks(
        title="MPAR²: audio reasoning, side by side",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(900, 2700),  # every 15 min files older than 45 min: no file lives for more than an hour
    ) as demo:
        gr.HTML(_HEAD, padding=False, elem_id="brand")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Compare", id="compare"):
                build_compare(services, demo)
            with gr.Tab("Analysis", id="analysis"):
                build_analysis(shelf)
        build_api(services)
    # Direct routes are closed: they would bypass the queue and run any number of requests at once.
    demo.queue(max_size=services.visitors.queue, default_concurrency_limit=4, api_open=False)
    demo.services, demo.shelf = services, shelf  # for the gate, and for preloading
    take_turns(demo)
    word_input_errors(demo)
    return demo


def theme() -> gr.themes.Base:
    """Return a theme with system fonts, so that nothing is fetched from other hosts."""
    import gradio as gr

    blue = gr.themes.Color(
        c50="#eef6fb", c100="#d9eaf5", c200="#b3d5ea", c300="#8cc4e8", c400="#4f9ccb", c500="#2377ab",
        c600="#14527d", c700="#0f4468", c800="#0d3856", c900="#0b2c45", c950="#081f31",
    )  # fmt: skip
    return gr.themes.Base(
        primary_hue=blue,
        secondary_hue=blue,
        neutral_hue="slate",
        radius_size="md",
        text_size="md",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
    ).set(
        body_background_fill="#f5f7f9",
        body_background_fill_dark="#10141b",
        block_background_fill="#ffffff",
        block_background_fill_dark="#171b23",
        block_border_color="#dde1e8",
        block_border_color_dark="#2e3542",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="#576071",
        block_label_text_color_dark="#a3acbb",
        block_info_text_color="#576071",
        block_info_text_color_dark="#a3acbb",
        block_title_text_color="#1b2130",
        block_title_text_color_dark="#e8ebf1",
        block_title_text_weight="600",
        body_text_color="#1b2130",
        body_text_color_dark="#e8ebf1",
        body_text_color_subdued="#576071",
        body_text_color_subdued_dark="#a3acbb",
        input_background_fill="#ffffff",
        input_background_fill_dark="#10141b",
        input_border_width="1px",
        input_border_color="#c8ced8",
        input_border_color_dark="#3a4352",
        button_primary_background_fill="#14527d",
        button_primary_background_fill_hover="#0f4468",
        button_primary_background_fill_dark="#8cc4e8",
        button_primary_background_fill_hover_dark="#b3d5ea",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0d1420",
    )


def launch_settings(upload_mb: int = 20, *, mcp: bool = False, first: str | None = None) -> dict[str, Any]:
    """Return the arguments of ``launch`` for a public app: no path is served, uploads are limited.

    ``first`` is the address of the comparison that the page opens with; ``mcp`` serves the endpoints as tools too.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware

    from pages import published, results
    from pages.first_screen import FirstScreen
    from pages.gate import SESSIONS, Gate
    from pages.safe_html import app_module

    gate = Middleware(Gate, upload_bytes=upload_mb * 1_000_000)
    compression = Middleware(GZipMiddleware, compresslevel=6)  # the page itself; Gradio packs only its scripts
    first_screen = Middleware(FirstScreen, module=app_module(), brand=_HEAD, first=first)
    return {
        "theme": theme(),
        "css_paths": [_FOLDER / "view" / "view.css", _FOLDER / "style.css"],
        "allowed_paths": [],
        "max_file_size": f"{upload_mb}mb",
        "show_error": False,
        "run_history": False,
        "footer_links": ["api"],
        "state_session_capacity": SESSIONS,
        "enable_monitoring": False,
        "app_kwargs": {
            "routes": [*published.routes(), *results.routes()],
            "middleware": [gate, compression, first_screen],
        },
        "mcp_server": mcp,
        "ssr_mode": False,
        "pwa": False,
    }
