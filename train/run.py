"""Train a face VAE on CelebA, from images on disk to a model folder that the app opens.

    python train/run.py --data DIR                        the default recipe, all stages, into runs/capacity
    python train/run.py --data DIR --preset celeba64      the recipe of the shipped model
    python train/run.py --data DIR --images 50000         a shorter run: every schedule scales with it
    python train/run.py --data DIR --preset vae --beta 4 --model.latents 16    a recipe with settings of your own
    python train/run.py --preset vae --dry-run            what that run would be: settings, size, memory, speed
    python train/run.py --data DIR --stages evaluate      only the figures of merit of what is in --out
    python train/run.py --data DIR --stages evaluate,figures --model user/name --out DIR2    those of another model
    python train/run.py --data DIR --stages figures --compare runs/vae runs/beta4 runs/beta10 --out runs/vae
    python train/run.py --data DIR --stages directions,compare --choose    directions by the best of all methods
    python train/run.py --stages publish --repo user/name   put what is in --out on the Hugging Face Hub
    python train/run.py --stages publish --repo user/name --dry-run    leave that in OUT/publish instead, and open it

The same command goes on where an interrupted run stopped.
"""

import argparse
import dataclasses
import functools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    # Run as a script, Python puts train/ first on the path, where our data.py and metrics.py would hide packages of
    # those names; the repository's root belongs there.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from tqdm import tqdm

from betavae import Editor, hub
from betavae.classifier import Classifier
from betavae.directions import Directions
from betavae.editor import pick_device
from betavae.mixture import Mixture
from betavae.model import VAE
from betavae.release import publish, release, write
from betavae.repository import check
from train import evaluation, figures, metrics, probes, selection
from train.classifier import fit_classifier, score
from train.data import Dataset, load, open_data
from train.displacement import EVERY, FACES, with_displacements
from train.loop import SAVE_SECONDS, Diverged, Interrupted, fit
from train.mixture import fit_mixture, posterior_samples
from train.plan import plan
from train.presets import PRESETS, TrainConfig, explain, override
from train.ranks import ALONE, Ranks

STAGES = ("data", "fit", "evaluate", "directions", "compare", "figures", "publish")
DEFAULT_STAGES = tuple(stage for stage in STAGES if stage not in ("compare", "publish"))
PROGRESS_FACES = 16  # whose reconstructions are drawn while training
OF_ANY_MODEL = ("evaluate", "figures")
FEATURES = {"inception": "Inception pool3, TensorFlow's weights", "classifier": "the run's own classifier: no FID, and not "
            "comparable with any", "none": ""}

Latents = Callable[[str], evaluation.Posterior]  # of a split


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        options, rest = _parser().parse_known_args(arguments)
        config = override(PRESETS[options.preset], _settings(rest))
        if options.help:
            print(_parser().format_help() + "\n" + explain(config))
            return 0
        stages = _stages(options.stages)
        if options.push_to_hub and "publish" not in stages:
            stages.append("publish")
        out = Path(options.out or f"runs/{options.preset}")
        if "publish" in stages and not options.repo:
            raise ValueError("--repo is missing: the stage publish needs user/name.")
        if options.dry_run and stages == ["publish"]:
            return _publish_dry(out, options.repo)
        ranks = ALONE if options.dry_run else Ranks.join()
        device = ranks.device(pick_device(options.device))
        if options.dry_run:
            print(json.dumps(plan(config, device), indent=1))
            return 0
        if options.model and not set(stages) <= set(OF_ANY_MODEL):
            raise ValueError(f"--stages is {options.stages!r}; with --model, choose from {', '.join(OF_ANY_MODEL)}.")
        if "publish" in stages and ranks.first:
            check(options.repo)  # before hours of training, not after them
        if options.save_every < 0:
            raise ValueError(f"--save-every is {options.save_every:g}; it must be a number of seconds, 0 or more.")
        if stages != ["publish"]:
            run(config, options.data, out, stages, device, Path(options.cache), options.choose,
                _conditions(options.condition), options.save_every, ranks,
                hub.resolve(options.model) if options.model else None, options.features, tuple(map(Path, options.compare)))
        if "publish" in stages and ranks.first:
            print(publish(out, options.repo, private=options.private or None, create_pr=options.create_pr))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except (ValueError, OSError, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _publish_dry(out: Path, repo: str) -> int:
    """What would be published, in a folder of its own that opens as it will from the Hub."""
    folder = out / "publish"
    shutil.rmtree(folder, ignore_errors=True)
    write(release(out, repo), folder)
    editor = Editor.from_pretrained(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>12,} {path}")
    print(f"opens: {editor.config.latents} latents, {len(editor.directions)} directions, weights {editor.hash}")
    return 0


def run(config: TrainConfig, data: str | None, out: Path, stages: list[str], device: torch.device, cache: Path,
        choose: bool = False, conditions: dict[str, str] | None = None, save_every: float = SAVE_SECONDS,
        ranks: Ranks = ALONE, source: Path | None = None, features: str = "inception", others: tuple[Path, ...] = ()) -> None:
    """The stages on data, in order, each reading what the ones before left in ``out``.

    Of several processes all share the stage fit, and rank 0 alone makes the others. ``source`` is the folder of another
    model than the run's, for the stages that any model can go through; ``others`` are the folders of runs that the figures
    show side by side.
    """
    source = source or out
    celeba = open_data(data)
    if ranks.first:
        print(celeba)
    if "fit" not in stages and (source / "config.json").exists():
        # Whatever --preset says, the model that is there is shown its own crop and size.
        config = dataclasses.replace(config, model=hub.load_model(source).config)
    dataset = load(celeba, config.model, cache)
    out.mkdir(parents=True, exist_ok=True)
    if "fit" in stages:
        if ranks.first:
            print(config.to_json())
            (out / "run.json").write_text(config.to_json() + "\n")
        train = dataset.training(config.model, config.subset)
        watch = figures.progress(dataset.images("val")[:PROGRESS_FACES], out, device)
        model = fit(config, train, dataset.images("val"), out, device, ranks, save_every, watch)
        if ranks.first:
            hub.save(model, out)
    ranks.leave()
    if not ranks.first or not {"evaluate", "directions", "compare", "figures"} & set(stages):
        return
    # The stages below measure the folder that they leave, not the model in memory, and encode every split once.
    model = hub.load_model(source).to(device)
    latents = functools.cache(lambda split: evaluation.encode_all(model, dataset.images(split), device))
    mixture = functools.cache(lambda: _mixture(source, out, latents, config.seed, refit="fit" in stages))
    if "evaluate" in stages:
        _evaluate(source, out, config.seed, model, dataset, latents, mixture, device, features)
    if "directions" in stages:
        _directions(out, model, dataset, latents, device, config.seed, choose, conditions or {})
        mixture()
    if "compare" in stages:
        _compare(out, model, dataset, latents, device, config.seed)
    if "figures" in stages:
        known = _rows(dataset.celeba.attributes | dataset.numeric(), dataset.indices("test"))
        drawn = figures.draw(Editor.from_pretrained(source, device), _report(out), dataset.images("test"), latents("test")[0],
                             known, out, source / "log.jsonl", config.seed)
        if others:
            # Each model is shown the same faces in its own crop and size.
            runs = [figures.Run(folder.name, editor, _report(folder), load(celeba, editor.config, cache).images("test"))
                    for folder, editor in ((folder, Editor.from_pretrained(folder, device)) for folder in others)]
            drawn += figures.compare_runs(runs, out, config.seed)
        for path in drawn:
            print(path)


def _report(folder: Path) -> dict:
    if not (folder / "metrics.json").exists():
        raise ValueError(f"{str(folder)!r} has no metrics.json; run the stage evaluate before figures.")
    report = json.loads((folder / "metrics.json").read_text())
    if "collapse" not in report:
        raise ValueError(f"{str(folder / 'metrics.json')!r} is of an earlier version; run the stage evaluate again.")
    return report


def _evaluate(source: Path, out: Path, seed: int, model: VAE, dataset: Dataset, latents: Latents,
              mixture: Callable[[], Mixture], device: torch.device, features: str) -> None:
    """Every figure of merit of the model, into ``out/metrics.json``; what cannot be had is named there with the reason."""
    report = _origin(source) | {"absent": {}}
    similarities, extract = {"ssim": metrics.ssim}, None
    if features == "none":
        report["absent"] = {name: "--features is none." for name in ("lpips", "frechet")}
    else:
        try:
            similarities["lpips"] = evaluation.lpips(device)
        except evaluation.Unavailable as reason:
            report["absent"]["lpips"] = str(reason)
    if features == "inception":
        try:
            extract = evaluation.inception(device)
        except evaluation.Unavailable as reason:
            report["absent"]["frechet"] = f"{reason} --features classifier needs no download."
    elif features == "classifier":
        extract = _classifier(source if (source / "classifier.safetensors").exists() else out, dataset, device, seed).features
    for split in ("val", "test"):
        report[split] = evaluation.evaluate(model, dataset.images(split), split, device, latents(split), similarities, seed)
    report["collapse"] = evaluation.collapse(model, "test", *latents("test"), device, seed)
    fitted, tested = ((latents(split)[0], _rows(dataset.celeba.attributes, dataset.indices(split)))
                      for split in ("val", "test"))
    report["attributes"] = evaluation.attributes(model, fitted, tested, seed)
    if extract:
        report["frechet"] = evaluation.frechet(model, dataset.images("val"), dataset.images("test"), latents("test")[0],
                                               mixture(), extract, FEATURES[features], device, seed)
    (out / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
    print(evaluation.table(report))


def _origin(source: Path) -> dict:
    """Preset, images seen and seed of a model, from its run or from the figures that came with it; nothing if neither says."""
    if (source / "run.json").exists():
        run = json.loads((source / "run.json").read_text())
        return {"preset": run["preset"], "images_seen": run["images"], "seed": run["seed"]}
    known = json.loads((source / "metrics.json").read_text()) if (source / "metrics.json").exists() else {}
    return {key: known[key] for key in ("preset", "images_seen", "seed") if key in known}


def _mixture(source: Path, out: Path, latents: Latents, seed: int, refit: bool) -> Mixture:
    """The density of z over training faces, fitted once for a model and kept beside it."""
    known = source / "mixture.safetensors"
    if known.exists() and not refit:
        return Mixture.load(known, latents("val")[0].shape[1])
    train, val = (posterior_samples(*latents(split), seed) for split in ("train", "val"))
    mixture, report = fit_mixture(train, val, seed)
    mixture.save(out / "mixture.safetensors")
    print(f"mixture of {report['components']} Gaussians: {report['log_likelihood']:.2f} nats a val face, "
          f"N(0, I) {report['prior']:.2f}")
    return mixture


def _classifier(out: Path, dataset: Dataset, device: torch.device, seed: int, name: str = "classifier") -> Classifier:
    """A judge of edits, trained once for a run and kept beside it."""
    path = out / f"{name}.safetensors"
    if not path.exists():
        fit_classifier(dataset, device, seed).save(path)
    return Classifier.load(path).to(device)


def _directions(out: Path, model: VAE, dataset: Dataset, latents: Latents, device: torch.device, seed: int, choose: bool,
                conditions: dict[str, str]) -> None:
    train = dataset.indices("train")
    (mu, _), (val, _) = latents("train"), latents("val")
    measured = dataset.numeric()
    attributes, numeric = _rows(dataset.celeba.attributes, train), _rows(measured, train)
    for source, present in (("list_face_geometry.csv", "yaw" in numeric), ("masks/", "background_brightness" in numeric)):
        if not present:
            print(f"The data has no {source}, so the directions measured from it are left out.")
    columns = attributes | numeric
    joined = {name: probes.condition(text, columns) for name, text in conditions.items()}
    directions = probes.simple_directions(mu, attributes | joined, numeric)
    if choose:
        judge = selection.Judge(model, _classifier(out, dataset, device, seed), device, mu[:selection.USUAL_FACES])
        mirrored, _ = evaluation.encode_all(model, dataset.images("train").flip(2), device)
        some = torch.from_numpy(np.random.default_rng(seed).permutation(len(train))[:selection.SLOPE_FACES])
        masks = _masks(dataset, "train")
        masks = None if masks is None else masks[some]
        few = mu[some]
        faces = selection.Faces(mu, mirrored, {name: columns[name] for name in judge.names}, few, judge.slopes(few, masks),
                                judge.look(few), masks)
        chosen, table = selection.choose(judge, faces, val[:selection.VAL_FACES], _masks(dataset, "val"), directions,
                                         lambda names: tqdm(names, desc="directions"))
        directions = probes.with_quantiles(chosen, mu)
        (out / "selection.json").write_text(json.dumps(table, indent=1) + "\n")
    directions = with_displacements(directions, model.decode, mu[::EVERY][:FACES].to(device))
    known = _rows(dataset.celeba.attributes | measured, dataset.indices("val"))
    selection.held_out(directions, val, known).save(out / "directions.safetensors")
    (out / "atlas.json").write_text(json.dumps(probes.atlas(mu, columns), indent=1) + "\n")
    print(f"{len(directions)} directions from {len(train):,} training faces")


def _rows(columns: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[index] for name, values in columns.items()}


def _masks(dataset: Dataset, split: str) -> torch.Tensor | None:
    return None if dataset.person is None else dataset.masks(split)


def _compare(out: Path, model: VAE, dataset: Dataset, latents: Latents, device: torch.device, seed: int) -> None:
    """The run's directions against mean difference and regression, at equal effect, on the test faces.

    The judge is a classifier of its own, from another seed: the one that the directions were made with would be partial.
    """
    directions = Directions.load(out / "directions.safetensors", model.config.latents)
    train = dataset.indices("train")
    (mu, _), (test, _) = latents("train"), latents("test")
    judge = selection.Judge(model, _classifier(out, dataset, device, seed + 1, "witness"), device, mu[:selection.USUAL_FACES])
    simple = probes.simple_directions(mu, _rows(dataset.celeba.attributes, train), _rows(dataset.numeric(), train))
    masks = _masks(dataset, "test")
    names = [name for name in selection.REPORTED if name in directions]
    table = selection.compare(judge, test, masks, simple, directions, names)
    labels = _rows(dataset.celeba.attributes, dataset.indices("test"))
    photos = selection.photographs(
        torch.cat([judge.see(dataset.images(split)) for split in ("val", "test")]),
        _rows(dataset.celeba.attributes | dataset.numeric(), np.concatenate([dataset.indices(split) for split in ("val", "test")])),
        judge.names, judge.count)
    for name, row in table.items():
        row["photos"] = photos[name]
        # An attribute is brought to faces that lack it, and taken back from there.
        lacking = test[torch.from_numpy(labels[name] == 0)] if name in labels else test
        row["reach"] = selection.reach(judge, lacking, directions, name)
        if selection.of_background(name):
            shift = row["chosen"]["dose"] * directions[name].at(test)
            row["outside"] = selection.outside(judge, test, shift, masks)
    report = {"split": "test", "images": len(test), "directions": table,
              "judge": {"split": "val", **score(judge.classifier, dataset, "val", device)}}
    (out / "compare.json").write_text(json.dumps(report, indent=1) + "\n")
    print(selection.table(report))
    picture = figures.effects(judge, test[:selection.VAL_FACES], directions)
    (out / "figures").mkdir(exist_ok=True)
    picture.savefig(out / "figures" / "effects.png", dpi=110)


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
    """What the parser does not know: --NAME VALUE or --NAME=VALUE, each a setting of the run's configuration."""
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
    run.add_argument("--data", metavar="DIR", help="CelebA, official or Kaggle's, or shards (default: Kaggle's, downloaded)")
    run.add_argument("--preset", metavar="NAME", choices=PRESETS, default="capacity",
                     help=f"one of {', '.join(PRESETS)} (default: capacity)")
    run.add_argument("--out", metavar="DIR", help="where the run is kept (default: runs/PRESET)")
    run.add_argument("--stages", metavar="A,B", default=",".join(DEFAULT_STAGES),
                     help=f"of {', '.join(STAGES)} (default: {', '.join(DEFAULT_STAGES)})")
    run.add_argument("--device", metavar="D", help="cuda, mps or cpu (default: the first of these that is here)")
    run.add_argument("--cache", metavar="DIR", default="runs/cache", help="decoded images (default: runs/cache)")
    run.add_argument("--save-every", metavar="SECONDS", type=float, default=SAVE_SECONDS,
                     help=f"time between two checkpoints (default: {SAVE_SECONDS:g})")
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
    later = parser.add_argument_group("directions and publishing")
    later.add_argument("--choose", action="store_true",
                       help="of every direction the method that measures best on pictures, not the published one")
    later.add_argument("--condition", metavar="NAME=CONDITION", nargs="+", default=[],
                       help="more directions, such as 'Viking=Male and not No_Beard and Blond_Hair'")
    later.add_argument("--repo", metavar="USER/NAME", help="where publish puts the model")
    later.add_argument("--private", action="store_true", help="publish to a private repository (default: as the account has it)")
    later.add_argument("--create-pr", action="store_true", help="publish as a pull request")
    later.add_argument("--push-to-hub", action="store_true", help="publish when all other stages are done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
