"""Face Latents as a web app: python app.py [--model FOLDER_OR_REPO] [--device DEVICE] [--mcp]."""

import argparse
import importlib.util
import sys

import gradio as gr

from betavae.editor import Editor
from betavae.ui import api, edit, interpolate, page, sample

NOTE = ("A small model trained on celebrity photos: it has their biases, and it blurs what it does not know. "
        "The attribute names are CelebA's labels, not facts about a person.")


def build_demo(editor: Editor) -> gr.Blocks:
    """The app around one editor, which every visitor shares: what belongs to a visitor stays in the browser."""
    config = editor.config
    # Uploads are deleted after an hour.
    with gr.Blocks(title="Face Latents", analytics_enabled=False, delete_cache=(600, 3600)) as demo:
        gr.HTML(f"<b>Face Latents</b><small>A {config.image_size} px VAE, {config.latents} latents, "
                f"{len(editor.directions)} directions</small>", elem_id="header", apply_default_css=False)
        with gr.Tabs(selected="edit") as tabs:
            with gr.Tab("Edit", id="edit"):
                stage = edit.build(editor)
            with gr.Tab("Interpolate", id="interpolate"):
                interpolate.build(editor, stage)
            with gr.Tab("Sample", id="sample"):
                sample.build(editor, stage, tabs)
        api.build(editor)
        gr.HTML(f"<p>{NOTE}</p>", elem_id="note", apply_default_css=False)
    return demo


def serving() -> dict:
    """How a demo is served, by itself or beside others."""
    # On the server, rendering (ssr_mode) would need Node.
    return {"head": page.head(), "footer_links": ["api"], "ssr_mode": False, "max_file_size": "50mb", "show_error": True,
            "app_kwargs": {"exception_handlers": api.EXCEPTION_HANDLERS}}


def main(arguments: list[str] | None = None) -> int:
    """Serve the app until Ctrl-C; returns the exit status. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where."""
    parser = argparse.ArgumentParser(description="Edit, interpolate and sample faces in the browser.")
    parser.add_argument("--model", help="model folder or Hub repository user/repo (default: the shipped model)")
    parser.add_argument("--mcp", action="store_true", help="also be an MCP server (needs gradio[mcp])")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest there is)")
    args = parser.parse_args(arguments)
    if args.mcp and importlib.util.find_spec("mcp") is None:
        print('error: --mcp needs a package that is not installed; run: pip install "gradio[mcp]"', file=sys.stderr)
        return 1
    try:
        demo = build_demo(Editor.from_pretrained(args.model, args.device))
        demo.launch(mcp_server=args.mcp, **serving())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
