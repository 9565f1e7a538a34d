"""What a run does, a function a stage. Each stage reads what the ones before left in the run's folder."""

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from betavae import Editor, hub
from betavae.classifier import Classifier
from betavae.directions import Directions
from betavae.files import write
from betavae.mixture import Mixture
from betavae.model import VAE
from train import evaluation, figures, metrics
from train.atlas import atlas
from train.cache import Dataset, load
from train.classifier import fit_classifier, score
from train.directions.compare import (
    REPORTED,
    SEARCH_FACES,
    background_ratio,
    photograph_gains,
    reported,
    safe_range_ends,
    table,
    with_held_out_scores,
)
from train.directions.compare import compare as compare_directions
from train.directions.conditions import condition, condition_names
from train.directions.evaluator import REFERENCE_FACES, Evaluator, of_background
from train.directions.refine import Faces, RefineConfig, parts, refined_directions
from train.directions.simple import simple_directions, with_quantiles
from train.displacement import FACES, with_displacements
from train.lists import SPLITS, DataError, Lists, Source, no_masks, require_held_out
from train.loop import SAVE_SECONDS, fit, in_bf16
from train.measure import MEASURED
from train.mixture import fit_mixture, posterior_samples, prior
from train.presets import TRAINED_ON, TrainConfig
from train.ranks import ALONE, Ranks
from train.sharpen import SharpenConfig, fit_sharpener, measure
from train.sources import open_data

STAGES = ("data", "fit", "evaluate", "directions", "compare", "sharpen", "figures", "publish")
MEASURING = ("evaluate", "directions", "compare", "sharpen", "figures")  # those that need a trained model
OF_ANY_MODEL = ("evaluate", "figures")
# What the stages make of a model: each says to which weights it belongs.
DERIVED = ("metrics.json", "mixture.safetensors", "directions.safetensors", "atlas.json", "selection.json", "compare.json",
           "sharp.safetensors", "sharp.json")
OF_DIRECTIONS = ("selection.json", "compare.json")  # what belongs to the directions beside it, not to the weights alone
SHARP_FACES = 500  # of val, by which sharp pictures are measured
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
    method : str
        One of ``train.directions.simple.METHODS``: how directions are made.
    conditions : mapping of str
        Name -> condition: more directions.
    compare : tuple of Path
        Folders of runs that the figures show side by side.
    sharpen_images : int
        Images that the second decoder is trained with, in all.
    start : Path, optional
        The folder of the model that the run starts from.
    aligned : bool
        As for ``train.sources.open_data``.
    bf16 : bool
        As for ``train.loop.fit``.
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
    method: str = "mean"
    conditions: Mapping[str, str] = field(default_factory=dict)
    compare: tuple[Path, ...] = ()
    sharpen_images: int = SharpenConfig.images
    start: Path | None = None
    aligned: bool = False
    bf16: bool = False

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

    def __init__(self, run: Run, dataset: Dataset):
        self.run, self.dataset = run, dataset
        # Measured is the folder that fit leaves, not the model in memory.
        self.model: VAE = hub.load_model(run.folder).to(run.device)
        self.weights = hub.model_hash(self.model)
        self._latents: dict[str, evaluation.Posterior] = {}
        self._mixture: Mixture | None = None

    def latents(self, split: str) -> evaluation.Posterior:
        """Mu and logvar, each (n, d), of a split."""
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
            if self.owns(known):
                self._mixture = Mixture.load(known, self.model.config.latents)
            else:
                z = {split: posterior_samples(*self.latents(split), self.run.seed) for split in SPLITS}
                self._mixture, report = fit_mixture(z["train"], z["val"], self.run.seed)
                self.keep("mixture.safetensors", self._mixture)
                # Val has chosen the number of components.
                likelihood = float(self._mixture.log_prob(z["test"].double()).mean())
                print(f"mixture of {report['components']} Gaussians: {likelihood:.2f} nats a test face, "
                      f"N(0, I) {prior(z['test']):.2f}")
        return self._mixture

    def owns(self, path: Path) -> bool:
        """Whether a file is there and was made of these weights. One of others is not used, which is said."""
        if not path.exists():
            return False
        owner = hub.stamped(path)
        if owner is None:  # of a run from before there were stamps, which run.json does not have either
            owner = "unknown" if "weights" in _record(self.run.folder) else self.weights
        if owner != self.weights:
            print(f"{str(path)!r} is of the weights {owner} and the model is {self.weights}: it is not used.")
        return owner == self.weights

    def keep(self, name: str, content: "dict | Mixture | Directions") -> None:
        """Write a file into the run's folder, with the hash of the weights that it belongs to."""
        path = self.run.out / name
        if isinstance(content, dict):
            write(path, json.dumps({"weights": self.weights} | content, indent=1) + "\n")
        else:
            content.save(path)
            hub.stamp(path, self.weights)

    def classifier(self, name: str, seed: int) -> Classifier:
        """A network that judges pictures, trained once for a run and kept beside it."""
        return judge(self.run, self.dataset, name, seed)


def judge(run: Run, dataset: Dataset, name: str, seed: int) -> Classifier:
    """The classifier of that name in the run's folder, trained where there is none yet."""
    path = run.out / f"{name}.safetensors"
    if run.ranks.first and not (path.exists() and _judges(path, dataset)):
        fit_classifier(dataset, run.device, seed).save(path)
    run.ranks.wait()
    return Classifier.load(path).to(run.device)


def _judges(path: Path, dataset: Dataset) -> bool:
    """Whether a classifier was trained on data with the columns of ``dataset``; it belongs to data, not to weights."""
    classifier, columns = Classifier.load(path), [*dataset.lists.attributes, *dataset.numeric()]
    if classifier.names == columns:
        return True
    print(f"{str(path)!r} is of other data than there is now: it is trained again.")
    return False


def follow(run: Run, stages: list[str]) -> None:
    """Make the stages, in order. Of several processes all share the stage fit, and rank 0 alone makes the others.

    Raises
    ------
    ValueError
        Something that the stages need is not there; whatever can be known before the first of them is checked before it.
    """
    source = open_data(run.data, run.aligned)
    if run.ranks.first:
        print(source)
    if "fit" not in stages and (run.folder / "config.json").exists():
        # Whatever --preset says, the model that is there is shown its own crop and size.
        config = dataclasses.replace(run.config, model=hub.load_model(run.folder).config)
        run = dataclasses.replace(run, config=config)
    check(run, stages, source)
    run.out.mkdir(parents=True, exist_ok=True)
    with locked(run.out) if run.ranks.first else contextlib.nullcontext():
        dataset = load(source, run.config.model, run.cache)
        require_held_out(dataset.lists, _held_out(stages))  # again: images may have been left out
        if "fit" in stages:
            fit_model(run, dataset)
        run.ranks.leave()
        if not run.ranks.first or not set(MEASURING) & set(stages):
            return
        subject = Subject(run, dataset)
        if "evaluate" in stages:
            evaluate(run, subject)
        if "directions" in stages:
            find_directions(run, subject)
        if "compare" in stages:
            compare(run, subject)
        if "sharpen" in stages:
            sharpen(run, subject, source)
        if "figures" in stages:
            draw(run, subject, source)


def check(run: Run, stages: list[str], source: Source) -> None:
    """Refuse at the start what would fail at the end.

    Raises
    ------
    ValueError
        A split has too few images, masks are missing, a condition cannot be met, or a folder lacks what a stage reads.
    """
    lists, model = source.lists, run.config.model
    if model.latents < 2 and set(stages) & set(MEASURING):
        raise ValueError(f"model.latents is {model.latents}; the stages {', '.join(MEASURING)} need at least 2.")
    if model.image_size != 64 and ("sharpen" in stages or ("fit" in stages and run.config.perceptual)):
        raise ValueError(f"model.image_size is {model.image_size}; --perceptual and the stage sharpen need 64, which the run's "
                         "classifier sees.")
    require_held_out(lists, _held_out(stages))
    _check_labels(run, stages, lists)
    if "fit" in stages:
        if run.config.splits != "train" and source.stream(model, 0) is not None:
            raise DataError(f"splits is {run.config.splits!r}, and of shards the training split alone is streamed; "
                            "give --splits train.")
        if model.mask and not lists.masked:
            raise DataError(no_masks(lists))
    elif set(stages) & set(MEASURING):
        hub.load_model(run.folder)
    there = _weights(run.out) if run.model else None
    if there is not None and there != _weights(run.folder):
        raise ValueError(f"{str(run.out)!r} holds a run with the weights {there}, beside which the results of "
                         f"{str(run.model)!r} would lie; give another --out.")
    if "directions" in stages:
        columns = lists.attributes | {name: np.zeros(len(lists.names)) for name in MEASURED}
        for name, text in run.conditions.items():
            if name in columns:
                raise ValueError(f"--condition has {name!r}, which the data has already; give the new direction another name.")
            if not condition_names(text, columns) & set(MEASURED):
                condition(text, _rows(lists.attributes, np.flatnonzero(lists.split == "train")))
    if "compare" in stages and "directions" not in stages and not (run.out / "directions.safetensors").exists():
        raise ValueError(f"{str(run.out)!r} has no directions.safetensors; run the stage directions before compare.")
    if "figures" in stages:
        for folder in (*(() if "evaluate" in stages else (run.out,)), *run.compare):
            _report(folder)
        for folder in run.compare:
            hub.load_model(folder)


def _held_out(stages: list[str]) -> tuple[str, ...]:
    """The splits whose images the stages look at without training on them."""
    return ("val", "test") if set(stages) & set(MEASURING) else ("val",) if "fit" in stages else ()


def _check_labels(run: Run, stages: list[str], lists: Lists) -> None:
    """Refuse what needs labels that the data has not."""
    needing = {"--perceptual": "fit" in stages and run.config.perceptual,
               "--features classifier": "evaluate" in stages and run.features == "classifier",
               "--method refined": "directions" in stages and run.method == "refined",
               "the stage compare": "compare" in stages, "the stage sharpen": "sharpen" in stages}
    asked = [what for what, wanted in needing.items() if wanted]
    if asked and not lists.attributes:
        raise DataError(f"The data has no labels, without which there is no {' and no '.join(asked)}.")
    if "compare" in stages and not set(REPORTED) & {*lists.attributes, *MEASURED}:
        raise DataError(f"The stage compare reports {', '.join(REPORTED)}; the data has none of them.")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process alone, until it ends.

    Raises
    ------
    ValueError
        Another process holds it; the sentence says which.
    """
    path = folder / "run.lock"
    with open(path, "a+", encoding="utf-8") as file:
        try:
            # A record lock: unlike flock's, it is not inherited by the processes that decode, which may live on for a moment.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and lock, the run that held the file may have removed it and another begun with a new one.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise OSError
        except OSError as error:
            file.seek(0)
            raise ValueError(f"{str(folder)!r} is in use by {file.read().strip() or 'another run'}; wait for it, "
                             "or give another --out.") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is locked, so that it is no other run's


def fit_model(run: Run, dataset: Dataset) -> None:
    """Train, and leave the model folder: config.json, model.safetensors, and run.json, which says what made those weights.

    Files of the weights that were there before are set aside.
    """
    config, ranks = run.config, run.ranks
    if ranks.first:
        print(config.to_json())
        for split in config.trained_on:
            if split != "train":
                print(f"The split {split} is trained on (splits {config.splits!r}): its figures are no held-out figures.")
    train = dataset.training(config.model, config.subset, config.trained_on)
    watch = figures.progress(dataset.images("val")[:PROGRESS_FACES], run.out, run.device)
    features = None
    if config.perceptual:
        features = judge(run, dataset, "classifier", config.seed).requires_grad_(False).features
    model = fit(config, train, dataset.images("val"), run.out, run.device, ranks, run.save_seconds, watch, features,
                None if run.start is None else hub.load_model(run.start), run.bf16)
    if not ranks.first:
        return
    before = _weights(run.out)
    hub.save(model, run.out)
    weights = hub.model_hash(model)
    # Last: a run that is refused, stopped or out of space leaves the record of the weights that are there.
    made = {"weights": weights, "images_seen": config.images, "data": dataset.source.title,
            "precision": "bf16" if in_bf16(run.device, run.bf16) else "float32"}
    write(run.out / "run.json", json.dumps(made | dataclasses.asdict(config), indent=1) + "\n")
    set_aside(run.out, before, weights)


def sharpen(run: Run, subject: Subject, source: Source) -> None:
    """Train the second decoder of the model, and measure it on val by a classifier that neither was trained with."""
    model, seed = subject.model, run.seed
    large = load(source, dataclasses.replace(model.config, image_size=2 * model.config.image_size), run.cache)
    judging = subject.classifier("classifier", seed)
    network = fit_sharpener(SharpenConfig(images=run.sharpen_images, seed=seed), model, judging, large.images("train"),
                            subject.latents("train")[0], run.out, run.device, run.save_seconds, run.bf16)
    network.save(run.out / "sharp.safetensors", subject.weights)
    editor = Editor.from_pretrained(run.folder, run.device)
    known = [name for name in REPORTED if name in editor.directions]
    steps = {name: 1.5 * editor.directions[name].vector for name in known}
    report = measure(model, network, large.images("val")[:SHARP_FACES], subject.latents("val")[0][:SHARP_FACES], steps,
                     subject.classifier("witness", seed + 1), run.device)
    report = {"split": "val"} | report
    subject.keep("sharp.json", report)
    print(json.dumps(report, indent=1))


def _weights(folder: Path) -> str | None:
    """The hash of a folder's model; None where there is none that can be read."""
    try:
        return hub.model_hash(hub.load_model(folder))
    except ValueError:
        return None


def set_aside(folder: Path, before: str | None, now: str) -> None:
    """Move what belongs to other weights than ``now`` into a folder named after those, and say so.

    A file without a stamp belongs to the weights ``before``, which it lay beside.
    """
    for name in DERIVED:
        path = folder / name
        if not path.exists():
            continue
        stamp = hub.stamped(path)
        owner = stamp or before or "unknown"
        if owner == now and stamp is None:
            hub.stamp(path, now)
        elif owner != now:
            aside = folder / f"of-{owner}"
            aside.mkdir(exist_ok=True)
            path.replace(aside / name)
            print(f"{str(path)!r} is of the weights {owner} and the model is now {now}: "
                  f"it is set aside as {str(aside / name)!r}.")
    pictures = [path for path in (folder / "figures").glob("*") if path.is_file()]  # not progress/, which this training drew
    if before not in (None, now) and pictures:
        aside = folder / f"of-{before}" / "figures"
        aside.mkdir(parents=True, exist_ok=True)
        for path in pictures:
            path.replace(aside / path.name)
        print(f"The figures of the weights {before} are set aside in {str(aside)!r}.")
    # Unfinished or not, it would be gone on from, and its network kept as one of these weights.
    sharpening = folder / "sharpen"
    if before != now and sharpening.exists():
        aside = folder / f"of-{before or 'unknown'}" / sharpening.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        sharpening.replace(aside)
        print(f"The training of the second decoder of the weights {before or 'unknown'} is set aside in {str(aside)!r}.")


def evaluate(run: Run, subject: Subject) -> None:
    """Every figure of merit of the model, into ``out/metrics.json``; what cannot be had is named there with the reason."""
    model, dataset, device, seed = subject.model, subject.dataset, run.device, run.seed
    report = _origin(run.folder, subject.weights) | {"absent": {}}
    similarities: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"ssim": metrics.ssim}
    extract = None
    if run.features == "none":
        report["absent"] = dict.fromkeys(("lpips", "frechet"), "--features is none.")
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
        report[split] = evaluation.evaluate(model, dataset.images(split), split, device, subject.latents(split), similarities,
                                            seed)
        report[split]["protocol"]["data"] = dataset.source.title
        if split in _trained_on(run.folder, subject.weights):
            report[split]["protocol"]["held_out"] = False
    report["collapse"] = evaluation.collapse(model, "test", *subject.latents("test"), device, seed)
    fitted, tested = ((subject.latents(split)[0], subject.attributes(split))
                      for split in ("val", "test"))
    try:
        report["attributes"] = evaluation.attributes(model, fitted, tested, seed)
    except evaluation.Unavailable as reason:
        report["absent"]["attributes"] = str(reason)
    if extract:
        report["frechet"] = evaluation.frechet(model, dataset.images("val"), dataset.images("test"), subject.latents("test")[0],
                                               subject.mixture(), extract, FEATURES[run.features], device, seed)
    subject.keep("metrics.json", report)
    print(evaluation.table(report))


def _origin(folder: Path, weights: str) -> dict:
    """Preset, images seen, seed and data of a model, from its run or the figures that came with it; nothing if neither says."""
    for name in ("run.json", "metrics.json"):
        known = _record(folder, name)
        if known.get("weights", weights) == weights and "preset" in known:
            # The oldest records have a run's length alone.
            seen = {"images_seen": known["images"]} if "images" in known else {}
            return {key: value for key, value in (seen | known).items() if key in ("preset", "images_seen", "seed", "data")}
    return {}


def _trained_on(folder: Path, weights: str) -> tuple[str, ...]:
    """The splits that a model was trained on; "train" where nothing says so."""
    record = _record(folder)
    known = record.get("weights", weights) == weights
    return TRAINED_ON.get(record.get("splits", "train"), ("train",)) if known else ("train",)


def _record(folder: Path, name: str = "run.json") -> dict:
    return json.loads((folder / name).read_text()) if (folder / name).exists() else {}


def _known_or_new(run: Run, subject: Subject) -> Classifier:
    path = run.folder / "classifier.safetensors"
    return Classifier.load(path).to(run.device) if path.exists() else subject.classifier("classifier", run.seed)


def find_directions(run: Run, subject: Subject) -> None:
    """The directions of the model's attributes and measured columns, and what each latent goes with, into the run's folder."""
    model, dataset, device, seed = subject.model, subject.dataset, run.device, run.seed
    train = dataset.indices("train")
    (mu, _), (val, _) = subject.latents("train"), subject.latents("val")
    attributes, numeric = _rows(dataset.lists.attributes, train), _rows(dataset.numeric(), train)
    for source, present in (("list_face_geometry.csv", "yaw" in numeric), ("masks/", "background_brightness" in numeric)):
        if not present:
            print(f"The data has no {source}, so the directions measured from it are left out.")
    if not attributes:
        print("The data has no labels, so directions of attributes are left out; python -m betavae make and the app's tab Make "
              "make them from faces with something and faces without.")
    columns = attributes | numeric
    joined = {name: condition(text, columns) for name, text in run.conditions.items()}
    refined, measuring = run.method == "refined", slice(None)
    directions = simple_directions(mu, attributes | joined, numeric, "mean" if refined else run.method)
    if refined:
        config = RefineConfig()
        measuring = parts(len(val), config.choosing_faces)[1]  # val faces that have chosen nothing
        evaluator = Evaluator(model, subject.classifier("classifier", seed), device, mu[:REFERENCE_FACES])
        some = torch.from_numpy(np.random.default_rng(seed).permutation(len(train))[:config.faces])
        masks = subject.masks("train")
        faces = Faces(mu, columns, mu[some], evaluator.observe(mu[some]), None if masks is None else masks[some])
        kept, table = refined_directions(evaluator, faces, val, subject.masks("val"), directions, run.out, config,
                                         lambda names: tqdm(names, desc="directions"))
        directions = with_quantiles(kept, mu)
    directions = with_displacements(directions, model.decode, subject.mixture().sample(FACES, seed).to(device))
    known = {name: y[measuring] for name, y in subject.columns("val").items()}
    scored = with_held_out_scores(directions, val[measuring], known)
    path = run.out / "directions.safetensors"
    before = path.read_bytes() if path.exists() else None
    subject.keep(path.name, scored)
    if before is not None and before != path.read_bytes():
        for name in OF_DIRECTIONS:
            if (run.out / name).exists():
                (run.out / name).replace(run.out / f"previous-{name}")
                print(f"{str(run.out / name)!r} is of the directions before these: it is kept as {f'previous-{name}'!r}.")
    if refined:
        subject.keep("selection.json", table)
    subject.keep("atlas.json", {"split": "train"} | atlas(mu, columns))
    print(f"{len(directions)} directions from {len(train):,} training faces")


def compare(run: Run, subject: Subject) -> None:
    """The run's directions against mean difference and regression, at equal effect.

    The test faces are those that no setting was compared on. The evaluator's classifier is another one, from another seed: the
    one that made the directions would favour them.
    """
    model, dataset, device = subject.model, subject.dataset, run.device
    directions = Directions.load(run.out / "directions.safetensors", model.config.latents)
    train, test = dataset.indices("train"), dataset.indices("test")
    faces = reported(len(test))
    (mu, _), (z, _) = subject.latents("train"), subject.latents("test")
    z, masks = z[faces], subject.masks("test")
    masks = None if masks is None else masks[faces]
    evaluator = Evaluator(model, subject.classifier("witness", run.seed + 1), device, mu[:REFERENCE_FACES])
    simple = simple_directions(mu, subject.attributes("train"), _rows(dataset.numeric(), train))
    names = [name for name in REPORTED if name in directions]
    rows, means = compare_directions(evaluator, z, masks, simple, directions, names,
                                     progress=lambda names: tqdm(names, desc="compare"))
    labels = _rows(dataset.lists.attributes, test[faces])
    photographs = photograph_gains(
        torch.cat([evaluator.classify(dataset.images("val")), evaluator.classify(dataset.images("test")[faces])]),
        _rows(dataset.lists.attributes | dataset.numeric(), np.concatenate([dataset.indices("val"), test[faces]])),
        evaluator.names, evaluator.attributes)
    for name, row in rows.items():
        row["photographs"] = photographs[name]
        # An attribute is brought to faces that lack it, and taken back from there.
        lacking = z[torch.from_numpy(labels[name] == 0)] if name in labels else z
        row["safe_range"] = safe_range_ends(evaluator, lacking, directions, name)
        if of_background(name) and masks is not None:
            row["background_ratio"] = background_ratio(evaluator, z, row["chosen"]["strength"] * directions[name].vector,
                                                       masks)
    report = {"split": "test", "images": len(z), "directions": rows, "means": means,
              "evaluator": {"split": "val", **score(evaluator.classifier, dataset, "val", device)}}
    subject.keep("compare.json", report)
    print(table(report))
    picture = figures.effects(evaluator, z[:SEARCH_FACES], directions)
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
