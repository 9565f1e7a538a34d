"""Train a face VAE on CelebA, from images on disk to a model folder that the app opens.

    python train/run.py --data DIR                        the default recipe, all stages, into runs/capacity
    python train/run.py --data DIR --preset celeba64      the first part of the shipped model; `make model` does all
    python train/run.py --data DIR --images 50000         a shorter run: every schedule scales with it
    python train/run.py --data DIR --preset vae --beta 4 --model.latents 16    a recipe with settings of your own
    python train/run.py --data DIR --config runs/vae/run.json --seed 1    another run with the settings of that one
    python train/run.py --data DIR --preset celeba64 --start user/name    from the weights of another model
    python train/run.py --preset vae --dry-run            the plan of that run: settings, size, memory, speed
    python train/run.py --data DIR --stages evaluate      only the figures of the model in --out
    python train/run.py --data DIR --stages evaluate,figures --model user/name --out DIR2    the same for another model
    python train/run.py --data DIR --stages figures --compare runs/vae runs/beta4 runs/beta10 --out runs/vae
    python train/run.py --data DIR --stages directions,compare --choose    directions refined on pictures
    python train/run.py --stages publish --repo user/name   publish the folder --out on the Hugging Face Hub
    python train/run.py --stages publish --repo user/name --dry-run    write it into OUT/publish instead, and open it

The same command goes on where an interrupted run stopped.
"""

import argparse
import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a script, Python puts train/ first on the path, where our metrics.py or lists.py would hide packages of those
    # names; the repository's root belongs there.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from betavae import Editor, hub
from betavae.editor import pick_device
from betavae.files import sentence
from betavae.release import publish, release, write
from betavae.repository import check
from train.directions.simple import METHODS
from train.loop import SAVE_SECONDS, Diverged, Interrupted
from train.plan import plan
from train.presets import PRESETS, TrainConfig, explain, override
from train.ranks import ALONE, Ranks
from train.sharpen import SharpenConfig
from train.stages import FEATURES, OF_ANY_MODEL, STAGES, Run, follow

DEFAULT_STAGES = tuple(stage for stage in STAGES if stage not in ("compare", "sharpen", "publish"))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        options, rest = _parser().parse_known_args(arguments)
        config = override(_configuration(options), _settings(rest))
        if options.help:
            print(_parser().format_help() + "\n" + explain(config))
            return 0
        start = hub.resolve(options.start) if options.start else None
        if start is not None:
            config = _started(config, start)
        elif config.start:
            raise ValueError(f"The settings start from the weights {config.start}; give their folder as --start.")
        stages = _stages(options.stages)
        if options.push_to_hub and "publish" not in stages:
            stages.append("publish")
        out = Path(options.out or f"runs/{config.preset}")
        if "publish" in stages and not options.repo:
            raise ValueError("--repo is missing: the stage publish needs user/name.")
        if options.dry_run and stages == ["publish"]:
            return _publish_dry(out, options.repo)
        ranks = ALONE if options.dry_run else Ranks.join()
        device = ranks.device(pick_device(options.device))
        if options.deterministic:
            # cuBLAS reads it when the first product is computed.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        if options.dry_run:
            print(json.dumps(plan(config, device, options.bf16), indent=1))
            return 0
        if options.model and not set(stages) <= set(OF_ANY_MODEL):
            raise ValueError(f"--stages is {options.stages!r}; with --model, choose from {', '.join(OF_ANY_MODEL)}.")
        if "publish" in stages and ranks.first:
            _check_publishable(out, stages)
            check(options.repo)  # before hours of training, not after them
        if options.save_every < 0:
            raise ValueError(f"--save-every is {options.save_every:g}; it must be a number of seconds, 0 or more.")
        if stages != ["publish"]:
            follow(Run(config, out, device, options.data, Path(options.cache), ranks, options.save_every,
                       hub.resolve(options.model) if options.model else None, options.features,
                       "refined" if options.choose else options.method,
                       _conditions(options.condition), tuple(map(Path, options.compare)), options.sharpen_images, start,
                       options.aligned, options.bf16), stages)
        if "publish" in stages and ranks.first:
            print(publish(out, options.repo, private=options.private or None, create_pr=options.create_pr))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("Stopped; the stages that were finished are kept, and the same command makes the others.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    except (ValueError, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _check_publishable(out: Path, stages: list[str]) -> None:
    """Check at the start that the folder will have all files to publish."""
    if "fit" not in stages:
        hub.load_model(out)
    for stage, name, there in (("evaluate", "metrics.json", (out / "metrics.json").exists()),
                               ("directions", "directions.safetensors", hub.directions_path(out))):
        if stage not in stages and not there:
            raise ValueError(f"{str(out)!r} has no {name}, without which no model is published; add the stage {stage}.")


def _publish_dry(out: Path, repo: str) -> int:
    """Write the files to publish into a folder, and open it as from the Hub."""
    folder = out / "publish"
    shutil.rmtree(folder, ignore_errors=True)
    write(release(out, repo), folder)
    editor = Editor.from_pretrained(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>12,} {path}")
    print(f"opens: {editor.config.latents} latents, {len(editor.directions)} directions, weights {editor.hash}")
    return 0


def _configuration(options: argparse.Namespace) -> TrainConfig:
    """The configuration that the settings of the command line change."""
    if options.config is None:
        return PRESETS[options.preset or "capacity"]
    if options.preset is not None:
        raise ValueError(f"--preset is {options.preset!r} and --config is {options.config!r}; give one of them.")
    try:
        return TrainConfig.from_json(Path(options.config).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{options.config!r} is no run's configuration: {error}") from error


def _started(config: TrainConfig, start: Path) -> TrainConfig:
    """The configuration with the hash of the weights in the folder ``start``, whose architecture it must have."""
    model = hub.load_model(start)
    if model.config != config.model:
        differing = [name for name, value in vars(config.model).items() if getattr(model.config, name) != value]
        raise ValueError(f"--start is {str(start)!r}, whose network differs from the run's in {', '.join(differing)}.")
    return dataclasses.replace(config, start=hub.model_hash(model))


def _conditions(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if not all(part.strip() for part in pair.partition("=")):
            raise ValueError(f"--condition has {pair!r}; write NAME=CONDITION, for example 'Viking=Male and not No_Beard'.")
    return {name.strip(): text.strip() for name, _, text in (pair.partition("=") for pair in pairs)}


def _stages(text: str) -> list[str]:
    stages = [stage.strip() for stage in text.split(",")]
    for stage in stages:
        if stage not in STAGES:
            raise ValueError(f"--stages has {stage!r}; choose from {', '.join(STAGES)}.")
    return stages


def _settings(words: list[str]) -> dict[str, str]:
    """The arguments unknown to the parser: --NAME VALUE or --NAME=VALUE, settings of the run's configuration."""
    texts, words = {}, list(words)
    while words:
        flag, equals, text = words.pop(0).partition("=")
        if not flag.startswith("--"):
            raise ValueError(f"{flag!r} belongs to no flag; settings are given as --NAME VALUE, for example --lr 1e-4.")
        if not equals and not words:
            raise ValueError(f"{flag} has no value; settings are given as --NAME VALUE, for example --lr 1e-4.")
        texts[flag[2:]] = text if equals else words.pop(0)
    return texts


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ValueError(f"{message[0].upper()}{message[1:]}; --help shows every flag.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="train/run.py", usage="train/run.py --data DIR [flags] [settings]", description=__doc__,
                     epilog="settings: --NAME VALUE for any field of the configuration, here with the values of --preset",
                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, add_help=False)
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--data",
        metavar="DIR",
        help="CelebA, official or Kaggle's, shards, any folder of pictures of faces, or a "
        "data set of the Hub, user/dataset (default: Kaggle's CelebA, downloaded)",
    )
    run.add_argument(
        "--aligned",
        action="store_true",
        help="the pictures of --data are framed already as CelebA's are; without "
        "it, the largest face of each is found and framed",
    )
    run.add_argument("--preset", metavar="NAME", choices=PRESETS,
                     help=f"one of {', '.join(PRESETS)} (default: capacity)")
    run.add_argument("--config", metavar="FILE", help="the settings of another run, its run.json, in place of a preset's")
    run.add_argument("--start", metavar="M", help="train on from the weights of this folder or Hub repository user/name")
    run.add_argument("--out", metavar="DIR", help="where the run is kept (default: runs/PRESET)")
    run.add_argument("--stages", metavar="A,B", default=",".join(DEFAULT_STAGES),
                     help=f"of {', '.join(STAGES)} (default: {', '.join(DEFAULT_STAGES)})")
    run.add_argument("--device", metavar="D", help="cuda, mps or cpu (default: the first of these that is here)")
    run.add_argument("--cache", metavar="DIR", default="runs/cache", help="decoded images (default: runs/cache)")
    run.add_argument("--save-every", metavar="SECONDS", type=float, default=SAVE_SECONDS,
                     help=f"time between two checkpoints (default: {SAVE_SECONDS:g})")
    run.add_argument("--deterministic", action="store_true",
                     help="on GPUs, only kernels that add in a fixed order: the same run has the same bits, more slowly "
                          "(on CPUs it always has)")
    run.add_argument("--bf16", action="store_true",
                     help="on CPUs, train in bf16: faster where the processor has instructions for it (GPUs do by themselves)")
    run.add_argument("--dry-run", action="store_true",
                     help="print one JSON object with config, parameters, memory_bytes and images_per_second, and stop")
    run.add_argument("--help", "-h", action="store_true", help="this page; with --preset, its settings")
    measured = parser.add_argument_group("evaluation and figures")
    measured.add_argument("--model", metavar="M", help="evaluate or draw this folder or Hub repository user/name instead of "
                                                       "the run in --out, where the results go")
    measured.add_argument("--features", metavar="F", choices=FEATURES, default="inception",
                          help="what the Fréchet distance compares: inception (FID; its weights are downloaded), classifier "
                               "(the run's own, no FID), none (nothing is downloaded) (default: inception)")
    measured.add_argument("--compare", metavar="RUN", nargs="+", default=[],
                          help="folders of evaluated runs that the figures show side by side, one row each")
    measured.add_argument(
        "--sharpen-images",
        metavar="N",
        type=int,
        default=SharpenConfig.images,
        help=f"images that the stage sharpen trains the second decoder with (default: {SharpenConfig.images:,})",
    )
    later = parser.add_argument_group("directions and publishing")
    later.add_argument("--method", metavar="M", choices=METHODS, default="mean",
                       help=f"how directions are made: {', '.join(METHODS)} (default: mean, the published way)")
    later.add_argument(
        "--choose", action="store_true", help="the same as --method refined, as the shipped directions were made"
    )
    later.add_argument("--condition", metavar="NAME=CONDITION", nargs="+", default=[],
                       help="more directions, such as 'Viking=Male and not No_Beard and Blond_Hair'")
    later.add_argument("--repo", metavar="USER/NAME", help="where publish puts the model")
    later.add_argument(
        "--private", action="store_true", help="publish to a private repository (default: as the account has it)"
    )
    later.add_argument("--create-pr", action="store_true", help="publish as a pull request")
    later.add_argument("--push-to-hub", action="store_true", help="publish when all other stages are done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
