"""Tab Edit: a photo or a generated face, the stage, and a slider for every direction."""

from pathlib import Path

import gradio as gr

from betavae.attributes import ATTRIBUTES, GROUPS, attribute
from betavae.editor import Editor
from betavae.ui import page

OPENING_SEED = 29
EXAMPLE_SEEDS = (2, 8, 14, 17, 47)
EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"


def build(editor: Editor) -> gr.HTML:
    """The tab's content; the component that is returned shows any face message it is given."""
    examples = [page.photo(editor, path, path.stem.replace("_", " ")) for path in example_files()]
    examples += [page.generated(editor, seed) for seed in EXAMPLE_SEEDS]

    def decode(request):
        return {"picture": page.data_uri(editor.decode(page.edited(editor, request))[0])}

    with gr.Row(elem_classes="workbench"):
        with gr.Column(elem_classes="source", scale=0, min_width=196):
            photo = page.photo_input("Your photo", "photo")
            random = gr.Button("Random face", variant="primary", elem_id="random")
            thumbnails = page.component("thumbnails", page.thumbnails(examples), elem_id="examples",
                                        note=credit())
        stage = page.component("edit", page.generated(editor, OPENING_SEED), [page.answering(decode)],
                               groups=catalogue(editor), count=len(editor.directions))

    def choose(event: gr.EventData):
        return page.renewed(examples[int(event.index)]), None

    def load(upload):
        face = page.uploaded(editor, upload)
        # A refused photo leaves the input; the face on the stage stays.
        return (face, gr.skip()) if face else (gr.skip(), None)

    photo.input(load, photo, [stage, photo], preprocess=False, **page.QUIET)
    random.click(lambda: (page.random_face(editor), None), None, [stage, photo], **page.QUIET)
    thumbnails.select(choose, None, [stage, photo], **page.QUIET)
    return stage


def catalogue(editor: Editor) -> list[dict]:
    """What the slider panel is built from: the groups in their order, each with its directions in theirs."""
    order = list(ATTRIBUTES)
    groups = {group: [] for group in GROUPS}
    for name in sorted(editor.directions, key=lambda name: order.index(name) if name in order else len(order)):
        direction, entry = editor.directions[name], attribute(name)
        groups[entry.group].append({
            "name": name, "label": entry.label, "primary": entry.primary,
            "unit": direction.unit, "per_strength": direction.per_strength,
            "low": direction.low, "high": direction.high, "quantiles": direction.quantiles,
        })
    return [{"group": group, "sliders": sliders, "more": sum(not slider["primary"] for slider in sliders)}
            for group, sliders in groups.items() if sliders]


def example_files() -> list[Path]:
    """The photos that ship with the app, in the order of their names."""
    return sorted(path for path in EXAMPLES.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))


def credit() -> str:
    """Whom the example photos are from: the first paragraph of CREDITS.md."""
    path = EXAMPLES / "CREDITS.md"
    if not path.is_file():
        return ""
    return " ".join(path.read_text(encoding="utf-8").split("\n\n")[0].replace("`", "").split())
