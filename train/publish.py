"""A run's model folder on the Hugging Face Hub, with a card made from its own figures."""

import json
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from betavae.directions import Directions
from betavae.hub import EXTRAS, FILES

# Named one by one: reconstructions.png shows CelebA's own images, which may not be redistributed.
PUBLISHED = (*FILES, *EXTRAS, "README.md", "run.json", "figures/edits.png", "figures/samples.png", "figures/traversals.png",
             "figures/curves.png")


class PublishError(ValueError):
    """A run that cannot be published. The message is one sentence that says what to do."""


def card(out: Path, repo: str) -> ModelCard:
    """The model card of a run: how to use it, its figures with their protocol, its directions, limits and bias."""
    metrics = json.loads((out / "metrics.json").read_text())
    latents = json.loads((out / "config.json").read_text())["latents"]
    names = Directions.load(out / "directions.safetensors", latents).names
    rows = "\n".join(f"| {split} | {m['protocol']['images']:,} | {m['bce']:,.1f} | {m['bce_gap']:.1f} | {m['psnr']:.2f} | "
                     f"{m['kl']:.2f} | {m['active_0.1']} | {m['active_1']} |"
                     for split, m in ((split, metrics[split]) for split in ("val", "test")))
    data = ModelCardData(license="other", license_name="celeba-non-commercial-research", library_name="betavae",
                         pipeline_tag="image-to-image", tags=["vae", "beta-vae", "faces", "latent-editing"])
    return ModelCard(f"""---
{data.to_yaml()}
---

# {repo.split("/")[-1]}

A face VAE with {latents} latents and {len(names)} editing directions, trained with the preset `{metrics["preset"]}` on
{metrics["images_seen"]:,} images of CelebA (seed {metrics["seed"]}).

```python
from betavae import Editor

editor = Editor.from_pretrained("{repo}")
z = editor.encode("photo.jpg")
editor.edit(z, {{"{names[0] if names else 'NAME'}": 1.5}})[0].save("edited.png")
```

![Edits of a generated face](figures/edits.png)

| split | images | BCE | above the pixel floor | PSNR | KL | latents > 0.1 nat | > 1 nat |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Reconstruction from the posterior mean, in nats per image; the floor is the images' BCE with themselves.

Directions: {", ".join(names)}.

## Limits and bias

Trained on photographs of celebrities, with CelebA's labels, some of which are judgements: directions move whatever goes
along with a label in that data, and say nothing about a person. For non-commercial research, as CelebA is.
""")


def publish(out: Path, repo: str, private: bool = False) -> str:
    """Upload a finished run and return the repository's address.

    Raises
    ------
    PublishError
        A file of the run is missing, there is no token, or the Hub refuses.
    """
    for name in FILES:
        if not (out / name).exists():
            raise PublishError(f"{str(out)!r} has no {name}; run the stages fit, evaluate and directions first.")
    (out / "README.md").write_text(str(card(out, repo)), encoding="utf-8")
    api = HfApi()
    try:
        api.whoami()
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=out, allow_patterns=list(PUBLISHED),
                          commit_message=f"Publish {repo.split('/')[-1]}")
    except LocalTokenNotFoundError as error:
        raise PublishError("There is no Hub token here; log in with `hf auth login` or set HF_TOKEN.") from error
    except HFValidationError as error:
        raise PublishError(f"--repo is {repo!r}; it must be user/name.") from error
    except (HfHubHTTPError, OSError) as error:
        raise PublishError(f"The Hub did not take {repo!r}: {str(error).splitlines()[0]}") from error
    return f"https://huggingface.co/{repo}"
