"""Corrective learning: a network learns the systematic errors of label fusion from the atlases themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.correction.features import Disputed, disputed
from atlaseg.pipeline.errors import NothingToLearnError, OptionError, UnreadableFileError
from atlaseg.pipeline.io.files import read_arrays, replacing, taking_apart

if TYPE_CHECKING:
    import torch

__all__ = ["Correction", "Example"]

Floats = npt.NDArray[np.float32]

FORMAT = 1
_ARRAYS = {"mean", "scale", *(f"{kind}{layer}" for kind in ("weight", "bias") for layer in range(3))}
#: Layers of the network, share of their outputs that is dropped while it learns, and of its inputs.
_WIDTH, _DROPOUT, _INPUT_DROPOUT = 128, 0.3, 0.1
_BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 512, 4e-3, 1e-2
#: Passes over the voxels, and the most steps: with many atlases fewer passes do.
_PASSES, _MOST_STEPS = 10, 5000
#: Voxels of one example that are learnt from, so that memory is bounded.
_MOST_VOXELS = 20_000


@dataclass(frozen=True, eq=False)
class Example:
    """A scan with known labels, and its fusion from the other atlases (leave-one-out).

    Args:
        probabilities: ``(K, *spatial)`` float, fused votes of the other atlases.
        image: ``(C, *spatial)`` float32.
        truth: ``(*spatial)`` channel indices.
    """

    probabilities: Floats
    image: Floats
    truth: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Correction:
    """A small network that reclassifies voxels where the fused vote is close.

    For each of the (up to four) labels with the highest probability at a voxel it reads the probabilities of that
    label and the intensities around it, and where the voxel lies in the structure, and gives one number; the
    softmax over these numbers takes the place of the labels' probabilities. All labels share one network, so that
    it learns from few scans and from structures of few voxels. What no label disputes stays as it is.

    The training examples must be made without the labels of their own scan (leave-one-out), or the network learns to
    trust votes that it will not get.

    Source: H. Wang et al., A learning-based wrapper method to correct systematic errors in automatic image
    segmentation, NeuroImage 55 (2011) 968-985, doi:10.1016/j.neuroimage.2011.01.006, which has a classifier of its
    own for each label (AdaBoost).

    Args:
        classes: ``K``, the background included.
        channels: of the scans.
        arrays: weights of the network, mean and scale of its inputs.
    """

    classes: int
    channels: int
    arrays: dict[str, Floats]

    @classmethod
    def learn(cls, examples: Iterable[Example], *, seed: int = 0) -> Self:
        """Learn from scans whose labels are known.

        Args:
            examples: one or more, all with the same classes and channels.
            seed: of everything random; equal seeds give equal networks on one device.

        Raises:
            NothingToLearnError: no example, or the votes were never close.
            OptionError: examples differ in classes or channels.
        """
        rng = np.random.default_rng(seed)
        inputs, answers, sizes = [], [], set()
        for example in examples:
            sizes.add((len(example.probabilities), len(example.image)))
            found = disputed(example.probabilities, example.image, rng, _MOST_VOXELS)
            right = found.labels == example.truth[tuple(found.points.T)][:, None]
            # nothing can be learnt where the true label is not among the candidates
            known = right.any(axis=1)
            inputs.append(found.features[known])
            answers.append(right[known].argmax(axis=1))
        if len(sizes) > 1:
            raise OptionError(f"examples differ in (classes, channels): {sorted(sizes)}")
        if not sizes or not sum(map(len, answers)):
            raise NothingToLearnError(
                "nothing to learn a correction from: no example has a voxel with a close vote"
            )
        ((classes, channels),) = sizes
        arrays = _trained(np.concatenate(inputs), np.concatenate(answers), seed)
        return cls(classes, channels, arrays)

    def apply(self, probabilities: Floats, image: Floats) -> Floats:
        """Corrected probabilities, ``(K, *spatial)`` float32, summing to one where those given do.

        Args:
            probabilities: ``(K, *spatial)``, fused votes.
            image: ``(C, *spatial)`` float32.

        Raises:
            OptionError: other classes or channels than it learnt with.
        """
        if (len(probabilities), len(image)) != (self.classes, self.channels):
            raise OptionError(
                f"this correction was learnt with {self.classes} classes and {self.channels} channel(s), found "
                f"{len(probabilities)} and {len(image)}"
            )
        corrected = np.array(probabilities, dtype=np.float32)
        found = disputed(probabilities, image)
        if len(found.points):
            _put(corrected, found, self._shares(found.features))
        return corrected

    def _shares(self, features: Floats) -> Floats:
        import torch

        scaled = (features - self.arrays["mean"]) / self.arrays["scale"]
        layers = [
            torch.from_numpy(self.arrays[f"{kind}{n}"]) for n in range(3) for kind in ("weight", "bias")
        ]
        with torch.no_grad():
            values = torch.from_numpy(scaled.astype(np.float32))
            for number in range(3):
                values = torch.nn.functional.linear(values, layers[2 * number], layers[2 * number + 1])
                values = values.relu() if number < 2 else values
            shares: Floats = values[..., 0].softmax(dim=1).numpy()
        return shares

    def save(self, path: Path) -> None:
        """Write numbers into one NumPy archive, whole or not at all."""
        about = {"format": FORMAT, "classes": self.classes, "channels": self.channels}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **self.arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load a file of :meth:`save`; it holds numbers only, no code.

        Raises:
            UnreadableFileError: it is something else, or of another version.
        """
        arrays = read_arrays(path)
        with taking_apart(path, "a correction that atlaseg wrote"):
            about = json.loads(str(arrays.pop("about")))
            form, sizes = about["format"], (int(about["classes"]), int(about["channels"]))
        if form != FORMAT:
            raise UnreadableFileError(f"{path}: format {str(form)[:40]!r}, this version reads {FORMAT!r}")
        if missing := sorted(_ARRAYS - set(arrays)):
            raise UnreadableFileError(f"{path}: not a correction that atlaseg wrote (it has no {missing[0]})")
        if wrong := [name for name, shape in _shapes(arrays).items() if not _is_of(arrays[name], shape)]:
            raise UnreadableFileError(
                f"{path}: {wrong[0]} is not as atlaseg writes it (shape {arrays[wrong[0]].shape}, type "
                f"{arrays[wrong[0]].dtype}); train again"
            )
        return cls(*sizes, arrays)


def _shapes(arrays: dict[str, Floats]) -> dict[str, tuple[int, ...]]:
    """Shape that each array must have; the number of features is that of the means."""
    features = arrays["mean"].size
    sizes = (features, _WIDTH, _WIDTH, 1)
    layers = {f"weight{n}": (sizes[n + 1], sizes[n]) for n in range(3)}
    return {
        "mean": (features,),
        "scale": (features,),
        **layers,
        **{f"bias{n}": (sizes[n + 1],) for n in range(3)},
    }


def _is_of(array: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    return array.shape == shape and array.dtype.kind == "f" and bool(np.isfinite(array).all())


def _put(corrected: Floats, found: Disputed, shares: Floats) -> None:
    """Redistribute the probability of the candidate labels."""
    places = tuple(found.points.T)
    columns = np.arange(found.labels.shape[1])
    mass = np.stack([corrected[(found.labels[:, c], *places)] for c in columns], axis=1).sum(axis=1)
    for c in columns:
        corrected[(found.labels[:, c], *places)] = shares[:, c] * mass


def _trained(inputs: Floats, answers: npt.NDArray[Any], seed: int) -> dict[str, Floats]:
    """Weights of the network, mean and scale of its inputs."""
    import torch

    flat = inputs.reshape(-1, inputs.shape[2])
    mean, scale = flat.mean(axis=0), flat.std(axis=0) + 1e-3
    samples = torch.from_numpy((inputs - mean) / scale)
    wanted = torch.from_numpy(answers.astype(np.int64))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = _network(inputs.shape[2])
        _fit(network, samples, wanted)
    linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    arrays = {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
    for number, layer in enumerate(linear):
        arrays[f"weight{number}"] = layer.weight.detach().numpy()
        arrays[f"bias{number}"] = layer.bias.detach().numpy()
    return arrays


def _network(inputs: int) -> torch.nn.Sequential:
    from torch import nn

    return nn.Sequential(
        nn.Dropout(_INPUT_DROPOUT),
        nn.Linear(inputs, _WIDTH),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(_WIDTH, _WIDTH),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(_WIDTH, 1),
    )


def _fit(network: torch.nn.Sequential, samples: torch.Tensor, wanted: torch.Tensor) -> None:
    import torch

    steps = min(_MOST_STEPS, max(1, _PASSES * len(samples) // _BATCH))
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps + 1)
    network.train()
    for _ in range(steps):
        drawn = torch.randint(len(samples), (min(_BATCH, len(samples)),))
        loss = torch.nn.functional.cross_entropy(network(samples[drawn])[..., 0], wanted[drawn])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
