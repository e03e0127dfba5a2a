"""Values of options that no command can meet: refused before any work, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow

#: Command, with places of good inputs in braces, and options of it with the values that are refused.
NUMBERS: dict[str, dict[str, tuple[str, ...]]] = {
    "demo here": {"minutes": ("nan", "inf", "-1", "0", "x"), "subjects": ("0", "-3", "1e3"), "seed": ("-1",)},
    "plan {data} --out plan.yaml": {
        "minutes": ("nan", "inf", "0", "-2"),
        "epochs": ("0", "-1", "1.5", "99999999999999999999"),
        "seed": ("-1", "4294967296", "nan"),
        "memory": ("nan", "-3GB", "0", "8PB", ""),
        "depth": ("deep", "3"),
        "device": ("tpu", "cuda:99", ""),
        "method": ("resnet", ""),
    },
    "train {data} --out out": {
        "minutes": ("nan", "-inf", "0"),
        "epochs": ("0", "-7"),
        "fold": ("-1", "5", "1000000000000"),
        "folds": ("0", "-1", "1", "1000"),
        "split-seed": ("-1", "18446744073709551616"),
        "seed": ("-1", "1e3"),
        "plan": ("none.yaml", ".", ""),
        "method": ("unet++", "atlas-", "atlas-knn"),
        "tracking": ("wandb",),
    },
    "train {data} --out out --method majority --folds 1": {
        "transform": ("sideways",),
        "engine": ("itk5",),
        "keep": ("0", "-1"),
        "linear": ("no",),
        "correct": ("maybe",),
    },
    "train {data} --out out --method atlas-unet": {
        "atlases": ("0", "1"),
        "warped": ("-1",),
        "weight": ("nan", "-0.1", "1.1"),
        "combine": ("sum",),
        "unlabelled": ("nowhere",),
    },
    "segment {network} {scan} --out out": {"device": ("tpu",), "weight": ("0.5",), "keep": ("3",)},
    "segment {atlas} {scan} --out out": {
        "fusion": ("vote",),
        "transform": ("sideways",),
        "keep": ("0",),
        "workers": ("0", "-1", "x"),
        "threads": ("0",),
        "masks": ("nowhere",),
    },
    "segment --method region-growing {scan} --out out": {
        "seed": ("1,2", "a,b,c", "nan,0,0", "99,0,0", "0:1,2,3", "-1:1,2,3", "1,2,3cm", "1e400,0,0", ""),
    },
    "segment --method region-growing --seed 5,5,5 {scan} --out out": {
        "option": ("tolerance", "tolerance=x", "tolerance=nan", "radius=-1", "iterations=2.5", "colour=3"),
    },
    "evaluate {label} {label} --out scores.csv": {
        "tolerance-mm": ("nan", "-1", "inf"),
        "workers": ("0", "-2"),
    },
    "register {scan} {scan} --out out": {
        "transform": ("sideways",),
        "engine": ("itk5",),
        "metric": ("nmi",),
        "grid-spacing": ("nan", "0", "-3", "1e-9"),
        "iterations": ("-1", "x"),
        "channel": ("-1", "7"),
        "seed": ("-1",),
        "threads": ("0",),
        "initial": ("nowhere.tfm", "middle"),
        "fixed-mask": ("nowhere.nii", "."),
        "format": ("txt",),
    },
    "warp {scan} --transform {transform} --out o.nii.gz": {
        "outside": ("nan", "inf", "x"),
        "reference": ("nowhere.nii", "."),
    },
    "fuse {label} {label} --out fused.nii.gz": {
        "method": ("vote", "joint"),
        "option": ("sigma=1",),
        "target": ("nowhere.nii",),
        "images": ("nowhere.nii",),
    },
    "fuse {label} {label} --out fused.nii.gz --method staple": {
        "option": (
            *("region", "region=here", "=1", "initial=2", "initial=nan", "tolerance=-1", "max_iterations=0"),
            *("max_iterations=1e3", "prior="),
        ),
    },
    "build-atlas {data} --out out": {
        "iterations": ("0", "-1"),
        "sharpening": ("nan", "-1"),
        "channel": ("-1", "9"),
        "transform": ("sideways",),
        "workers": ("0",),
    },
    "benchmark {data} --out out --methods unet": {
        "folds": ("0", "1", "-1", "1000"),
        "minutes": ("nan", "-1"),
        "labels": ("x", "-1", "3,3"),
        "tolerance-mm": ("nan",),
        "workers": ("0",),
        "first": ("0", "-1"),
    },
    "benchmark {data} --out out": {
        "methods": (
            *("nothing", ",", "unet,unet", "unet:", "unet:minutes", "unet:minutes=x", "unet:minutes=nan"),
            *(
                "unet:minutes=-1",
                "minutes=3",
                "none.yaml",
                "unet:fold=1",
                "knn:sigmas_mm=[1",
                "majority:keep=1e-1",
            ),
        ),
    },
    "phantom out": {"subjects": ("0", "-1", "x"), "seed": ("-1", "nan"), "kind": ("ghost",)},
    "report {data}": {"worst-cases": ("-1", "nan", "x")},
}


def _cases() -> list[tuple[str, str, str]]:
    return [
        (command, option, value)
        for command, options in NUMBERS.items()
        for option, values in options.items()
        for value in values
    ]


def _filled(command: str, good: Good) -> list[str]:
    return [word.format(**{k: str(v) for k, v in vars(good).items()}) for word in command.split()]


@pytest.mark.parametrize(("command", "option", "value"), _cases())
def test_value(command: str, option: str, value: str, good: Good, judge: Judge) -> None:
    judge.refused(*_filled(command, good), f"--{option}={value}", code=(1, 2) if "region" in command else 2)


OVERRIDES = (
    *("reasons=3", "reasons.spacing=x", "training", "=3", "training.rate=1", "training.seed=-1", "labels=3"),
    *(
        f"training.seed={2**70}",
        "training.seed=1e400",
        f"training.batch_size={10**30}",
        "training.batch_size=0",
    ),
    *(
        "training.batch_size=two",
        "training.learning_rate=nan",
        "training.learning_rate=0",
        "training.epochs=-1",
    ),
    *("training.minutes=1", "training.minutes=nan", "training.ema=1", "training.ema=2"),
    *(
        "training.warmup=2",
        "training.loss=l2",
        "training.cache=tape",
        "training.precision=fp8",
        "channels=[]",
    ),
    *(
        "network.dropout=5",
        "network.dropout=-1",
        "network.dropout=1",
        "network.channels=[]",
        "network.channels=3",
    ),
    *("network.channels=[0,1,2]", "network.strides=[]", "network.strides=[[0,1,1]]", "network.depth=deep"),
    *("network.name=resnet", "network.residual_units=-1", "network.residual_units=999999", "network={}"),
    *("spacing=1e-6", "spacing=[1e-6,1,1]", "spacing=[0,1,1]", "spacing=[1,1]", "spacing=[1,1,nan]"),
    *(
        "spacing=[1e9,1,1]",
        "patch_size=[1,1]",
        "patch_size=[0,8,8]",
        "patch_size=[7,7,7]",
        "patch_size=[8,8,8",
    ),
    *(
        "patch_size=[99999999,8,8]",
        "orientation=RRR",
        "orientation=",
        "prior.source=atlases",
        "prior.source=magic",
    ),
    *(
        "prior.dropout=2",
        "normalisation.lower=nan",
        "foreground_threshold=inf",
    ),
    *("inference.overlap=1", "inference.overlap=-0.1", "inference.mirror_axes=[3]", "inference.tta=maybe"),
    *("augmentation.flip_axes=[-1]", "augmentation.noise_probability=2", "augmentation.elastic_grid_mm=0"),
    *("augmentation.scaling=1", "memory_gb=0", "memory_gb=1e-9", "memory_gb=nan", "dataset=$import os"),
    *("channels=[$x]", "labels.structure=-1", "training.validate_every=0", "inference.window_batch=0"),
)


@pytest.mark.parametrize("override", OVERRIDES)
def test_override(override: str, good: Good, judge: Judge) -> None:
    judge.refused("train", good.data, "--out", judge.out, "--epochs", "1", "--override", override, code=2)


WORDS = (
    (),
    ("--out", "x"),
    ("--out",),
    ("a", "b", "c", "--nothing"),
    ("--help=3",),
    ("-x",),
    ("--", "--out", "x"),
    ("a\0b",),
    ("",),
)


@pytest.mark.parametrize(
    "command",
    ["check", "train", "segment", "evaluate", "register", "warp", "fuse", "build-atlas", "benchmark"],
)
@pytest.mark.parametrize("words", WORDS, ids=range(len(WORDS)))
def test_words(command: str, words: tuple[str, ...], judge: Judge) -> None:
    judge.refused(command, *words, code=2, lines=1)


@pytest.mark.parametrize("command", ["", "tran", "--what", "a\x1b[2Jb", "a\nb", "a\0b"])
def test_command(command: str, judge: Judge) -> None:
    judge.refused(command, code=2, lines=1)
