"""What a run does, a function a stage. Each stage reads what the ones before left in the run's folder."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from betavae import Editor, hub
from betavae.classifier import Classifier
from betavae.directions import Directions
from betavae.mixture import Mixture
from betavae.model import VAE
from train import evaluation, figures, metrics, probes, selection
from train.cache import Dataset, load
from train.classifier import fit_classifier, score
from train.displacement import EVERY, FACES, with_displacements
from train.lists import Source
from train.loop import SAVE_SECONDS, fit
from train.mixture import fit_mixture, posterior_samples
from train.presets import TrainConfig
from train.ranks import ALONE, Ranks
from train.sources import open_data

STAGES = ("data", "fit", "evaluate", "directions", "compare", "figures", "publish")
MEASURING = ("evaluate", "directions", "compare", "figures")  # those that need a trained model
OF_ANY_MODEL = ("evaluate", "figures")
FEATURES = {"inception": "Inception pool3, TensorFlow's weights", "classifier": "the run's own classifier: no FID, and not "
            "comparable with any", "none": ""}
PROGRESS_FACES = 16  # whose reconstructions are drawn while training


@dataclass(frozen=True)
class Run:
    """What a run is: its settings, its folder, and where it is computed.

    Parameters
    ----------
    config : TrainConfig
    out : Path
        The folder that the run is kept in.
    device : torch.device
    data : str, optional
        As for ``train.sources.open_data``.
    cache : Path
        The folder of decoded images.
    ranks : Ranks
        The processes that share the stage fit. Rank 0 alone makes the other stages.
    save_seconds : float
        Time between two checkpoints.
    model : Path, optional
        The folder of another model than the run's, for the stages that any model can go through.
    features : str
        One of FEATURES: what the Fréchet distance compares.
    choose : bool
        True if of every direction the method is taken that measures best.
    conditions : mapping of str
        Name -> condition: more directions.
    compare : tuple of Path
        Folders of runs that the figures show side by side.
    """

    config: TrainConfig
    out: Path
    device: torch.device
    data: str | None = None
    cache: Path = Path("runs/cache")
    ranks: Ranks = ALONE
    save_seconds: float = SAVE_SECONDS
    model: Path | None = None
    features: str = "inception"
    choose: bool = False
    conditions: Mapping[str, str] = field(default_factory=dict)
    compare: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the model is that is measured."""
        return self.model or self.out

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return self.config.seed


class Subject:
    """A run's trained model on the run's data; every split is encoded once, when it is first asked for."""

    def __init__(self, run: Run, dataset: Dataset, refit: bool):
        self.run, self.dataset = run, dataset
        # Measured is the folder that fit leaves, not the model in memory.
        self.model: VAE = hub.load_model(run.folder).to(run.device)
        self.refit = refit
        self._latents: dict[str, evaluation.Posterior] = {}
        self._mixture: Mixture | None = None

    def latents(self, split: str) -> evaluation.Posterior:
        """mu and logvar, each (n, d), of a split."""
        if split not in self._latents:
            self._latents[split] = evaluation.encode_all(self.model, self.dataset.images(split), self.run.device)
        return self._latents[split]

    def attributes(self, split: str) -> dict[str, np.ndarray]:
        """Name -> (n,) of 0 and 1, of a split."""
        return _rows(self.dataset.lists.attributes, self.dataset.indices(split))

    def columns(self, split: str) -> dict[str, np.ndarray]:
        """Attributes and measured columns of a split."""
        return _rows(self.dataset.lists.attributes | self.dataset.numeric(), self.dataset.indices(split))

    def masks(self, split: str) -> torch.Tensor | None:
        """uint8 (n, s, s) of a split; None where not every image has a mask."""
        return None if self.dataset.person is None else self.dataset.masks(split)

    def mixture(self) -> Mixture:
        """The density of z over training faces, fitted once for a model and kept beside it."""
        if self._mixture is None:
            known = self.run.folder / "mixture.safetensors"
            if known.exists() and not self.refit:
                self._mixture = Mixture.load(known, self.model.config.latents)
            else:
                train, val = (posterior_samples(*self.latents(split), self.run.seed) for split in ("train", "val"))
                self._mixture, report = fit_mixture(train, val, self.run.seed)
                self._mixture.save(self.run.out / "mixture.safetensors")
                print(f"mixture of {report['components']} Gaussians: {report['log_likelihood']:.2f} nats a val face, "
                      f"N(0, I) {report['prior']:.2f}")
        return self._mixture

    def classifier(self, name: str, seed: int) -> Classifier:
        """A network that judges pictures, trained once for a run and kept beside it."""
        path = self.run.out / f"{name}.safetensors"
        if not path.exists():
            fit_classifier(self.dataset, self.run.device, seed).save(path)
        return Classifier.load(path).to(self.run.device)


def follow(run: Run, stages: list[str]) -> None:
    """Make the stages, in order. Of several processes all share the stage fit, and rank 0 alone makes the others."""
    source = open_data(run.data)
    if run.ranks.first:
        print(source)
    if "fit" not in stages and (run.folder / "config.json").exists():
        # Whatever --preset says, the model that is there is shown its own crop and size.
        config = dataclasses.replace(run.config, model=hub.load_model(run.folder).config)
        run = dataclasses.replace(run, config=config)
    dataset = load(source, run.config.model, run.cache)
    run.out.mkdir(parents=True, exist_ok=True)
    if "fit" in stages:
        fit_model(run, dataset)
    run.ranks.leave()
    if not run.ranks.first or not set(MEASURING) & set(stages):
        return
    subject = Subject(run, dataset, refit="fit" in stages)
    if "evaluate" in stages:
        evaluate(run, subject)
    if "directions" in stages:
        find_directions(run, subject)
    if "compare" in stages:
        compare(run, subject)
    if "figures" in stages:
        draw(run, subject, source)


def fit_model(run: Run, dataset: Dataset) -> None:
    """Train, and leave the model folder: config.json, model.safetensors, run.json, log.jsonl."""
    config, ranks = run.config, run.ranks
    if ranks.first:
        print(config.to_json())
        (run.out / "run.json").write_text(config.to_json() + "\n")
    train = dataset.training(config.model, config.subset)
    watch = figures.progress(dataset.images("val")[:PROGRESS_FACES], run.out, run.device)
    model = fit(config, train, dataset.images("val"), run.out, run.device, ranks, run.save_seconds, watch)
    if ranks.first:
        hub.save(model, run.out)


def evaluate(run: Run, subject: Subject) -> None:
    """Every figure of merit of the model, into ``out/metrics.json``; what cannot be had is named there with the reason."""
    model, dataset, device, seed = subject.model, subject.dataset, run.device, run.seed
    report = _origin(run.folder) | {"absent": {}}
    similarities, extract = {"ssim": metrics.ssim}, None
    if run.features == "none":
        report["absent"] = {name: "--features is none." for name in ("lpips", "frechet")}
    else:
        try:
            similarities["lpips"] = evaluation.lpips(run.device)
        except evaluation.Unavailable as reason:
            report["absent"]["lpips"] = str(reason)
    if run.features == "inception":
        try:
            extract = evaluation.inception(run.device)
        except evaluation.Unavailable as reason:
            report["absent"]["frechet"] = f"{reason} --features classifier needs no download."
    elif run.features == "classifier":
        extract = _known_or_new(run, subject).features
    for split in ("val", "test"):
        report[split] = evaluation.evaluate(model, dataset.images(split), split, device, subject.latents(split), similarities, seed)
    report["collapse"] = evaluation.collapse(model, "test", *subject.latents("test"), device, seed)
    fitted, tested = ((subject.latents(split)[0], subject.attributes(split))
                      for split in ("val", "test"))
    report["attributes"] = evaluation.attributes(model, fitted, tested, seed)
    if extract:
        report["frechet"] = evaluation.frechet(model, dataset.images("val"), dataset.images("test"), subject.latents("test")[0],
                                               subject.mixture(), extract, FEATURES[run.features], device, seed)
    (run.out / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
    print(evaluation.table(report))


def _origin(source: Path) -> dict:
    """Preset, images seen and seed of a model, from its run or from the figures that came with it; nothing if neither says."""
    if (source / "run.json").exists():
        run = json.loads((source / "run.json").read_text())
        return {"preset": run["preset"], "images_seen": run["images"], "seed": run["seed"]}
    known = json.loads((source / "metrics.json").read_text()) if (source / "metrics.json").exists() else {}
    return {key: known[key] for key in ("preset", "images_seen", "seed") if key in known}


def _known_or_new(run: Run, subject: Subject) -> Classifier:
    path = run.folder / "classifier.safetensors"
    return Classifier.load(path).to(run.device) if path.exists() else subject.classifier("classifier", run.seed)


def find_directions(run: Run, subject: Subject) -> None:
    """The directions of the model's attributes and measured columns, and what each latent goes with, into the run's folder."""
    model, dataset, device, seed = subject.model, subject.dataset, run.device, run.seed
    train = dataset.indices("train")
    (mu, _), (val, _) = subject.latents("train"), subject.latents("val")
    measured = dataset.numeric()
    attributes, numeric = _rows(dataset.lists.attributes, train), _rows(measured, train)
    for source, present in (("list_face_geometry.csv", "yaw" in numeric), ("masks/", "background_brightness" in numeric)):
        if not present:
            print(f"The data has no {source}, so the directions measured from it are left out.")
    columns = attributes | numeric
    joined = {name: probes.condition(text, columns) for name, text in run.conditions.items()}
    directions = probes.simple_directions(mu, attributes | joined, numeric)
    if run.choose:
        judge = selection.Judge(model, subject.classifier("classifier", seed), device, mu[:selection.USUAL_FACES])
        mirrored, _ = evaluation.encode_all(model, dataset.images("train").flip(2), device)
        some = torch.from_numpy(np.random.default_rng(seed).permutation(len(train))[:selection.SLOPE_FACES])
        masks = subject.masks("train")
        masks = None if masks is None else masks[some]
        few = mu[some]
        faces = selection.Faces(mu, mirrored, {name: columns[name] for name in judge.names}, few, judge.slopes(few, masks),
                                judge.look(few), masks)
        chosen, table = selection.choose(judge, faces, val[:selection.VAL_FACES], subject.masks("val"), directions,
                                         lambda names: tqdm(names, desc="directions"))
        directions = probes.with_quantiles(chosen, mu)
        (run.out / "selection.json").write_text(json.dumps(table, indent=1) + "\n")
    directions = with_displacements(directions, model.decode, mu[::EVERY][:FACES].to(device))
    known = subject.columns("val")
    selection.held_out(directions, val, known).save(run.out / "directions.safetensors")
    (run.out / "atlas.json").write_text(json.dumps(probes.atlas(mu, columns), indent=1) + "\n")
    print(f"{len(directions)} directions from {len(train):,} training faces")
    subject.mixture()


def compare(run: Run, subject: Subject) -> None:
    """The run's directions against mean difference and regression, at equal effect, on the test faces.

    The judge is a classifier of its own, from another seed: the one that the directions were made with would be partial.
    """
    model, dataset, device = subject.model, subject.dataset, run.device
    directions = Directions.load(run.out / "directions.safetensors", model.config.latents)
    train = dataset.indices("train")
    (mu, _), (test, _) = subject.latents("train"), subject.latents("test")
    judge = selection.Judge(model, subject.classifier("witness", run.seed + 1), device, mu[:selection.USUAL_FACES])
    simple = probes.simple_directions(mu, subject.attributes("train"), _rows(dataset.numeric(), train))
    masks = subject.masks("test")
    names = [name for name in selection.REPORTED if name in directions]
    table = selection.compare(judge, test, masks, simple, directions, names)
    labels = subject.attributes("test")
    photos = selection.photographs(
        torch.cat([judge.see(dataset.images(split)) for split in ("val", "test")]),
        _rows(dataset.lists.attributes | dataset.numeric(), np.concatenate([dataset.indices(split) for split in ("val", "test")])),
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
    (run.out / "compare.json").write_text(json.dumps(report, indent=1) + "\n")
    print(selection.table(report))
    picture = figures.effects(judge, test[:selection.VAL_FACES], directions)
    (run.out / "figures").mkdir(exist_ok=True)
    picture.savefig(run.out / "figures" / "effects.png", dpi=110)


def draw(run: Run, subject: Subject, source: Source) -> None:
    """The run's figures, and those that show other runs beside it."""
    drawn = figures.draw(Editor.from_pretrained(run.folder, run.device), _report(run.out), subject.dataset.images("test"),
                         subject.latents("test")[0], subject.columns("test"), run.out, run.folder / "log.jsonl", run.seed)
    if run.compare:
        # Each model is shown the same faces in its own crop and size.
        runs = [figures.Run(folder.name, editor, _report(folder), load(source, editor.config, run.cache).images("test"))
                for folder, editor in ((folder, Editor.from_pretrained(folder, run.device)) for folder in run.compare)]
        drawn += figures.compare_runs(runs, run.out, run.seed)
    for path in drawn:
        print(path)


def _report(folder: Path) -> dict:
    if not (folder / "metrics.json").exists():
        raise ValueError(f"{str(folder)!r} has no metrics.json; run the stage evaluate before figures.")
    report = json.loads((folder / "metrics.json").read_text())
    if "collapse" not in report:
        raise ValueError(f"{str(folder / 'metrics.json')!r} is of an earlier version; run the stage evaluate again.")
    return report


def _rows(columns: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[index] for name, values in columns.items()}
