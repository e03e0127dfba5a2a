"""Make the pictures of the site from phantoms: ``python -P docs/tools/make_pictures.py WORK``.

WORK keeps the scans and the benchmark behind them (a quarter of an hour on two cores); the same command goes on with
what is missing. The page of the report is photographed by Chromium. ``flow.svg`` is drawn by hand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from atlaseg.workflows.cli import main

PICTURES = Path(__file__).parents[1] / "pictures"
#: Of the five structures, told apart with any kind of colour vision (Okabe and Ito).
COLOURS = ("#56B4E9", "#E69F00", "#F0E442", "#0072B2", "#CC79A7")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
METHODS = "kmeans,gmm,majority:transform=affine,watershed"


def run(*words: str) -> None:
    """One command of atlaseg, which must succeed."""
    if code := main(words):
        sys.exit(f"atlaseg {' '.join(words)} ended with {code}")


def make_all(work: Path) -> None:
    """Every picture."""
    heads, compared, pair = (work / name for name in ("HEADS", "OUT", "PAIR"))
    scans = [heads / "imagesTr" / f"phantom_00{number}.nii.gz" for number in (0, 1)]
    if not heads.is_dir():
        run("phantom", str(heads), "--subjects", "6")
    draw_labels(scans[1], heads / "labelsTr" / scans[1].name, PICTURES / "labels.png")
    run("register", str(scans[0]), str(scans[1]), "--out", str(pair))
    shrink(Image.open(pair / "registration.png"), PICTURES / "registration.png", width=1000)
    run(
        *("benchmark", str(heads), "--methods", METHODS, "--folds", "2"),
        *("--probabilities", "--out", str(compared)),
    )
    run("report", str(compared))
    photograph(compared / "report.html", PICTURES / "report.png")


def draw_labels(scan: Path, labels: Path, picture: Path) -> None:
    """Three slices through the middle of the labelled part, with and without colours."""
    import nibabel
    from matplotlib.colors import to_rgb

    image, truth = (nibabel.as_closest_canonical(nibabel.load(path)) for path in (scan, labels))
    spacing = image.header.get_zooms()[:3]
    grey = np.asarray(image.dataobj, float)
    grey = np.clip(grey / np.percentile(grey[grey > 0], 99.5), 0, 1)
    values = np.asarray(truth.dataobj).astype(int)
    centre = [int(np.median(places)) for places in np.nonzero(values)]
    centre[1] -= 2  # through the ventricles
    rows: list[list[npt.NDArray[Any]]] = [[], []]
    for axis in (2, 1, 0):
        cut = [np.rot90(np.take(voxels, centre[axis], axis)) for voxels in (grey, values)]
        height, width = (spacing[other] for other in ((1, 0), (2, 0), (2, 1))[2 - axis])
        plain = np.repeat(cut[0][..., None], 3, axis=-1)
        coloured = plain.copy()
        for value, colour in enumerate(COLOURS, 1):
            coloured[cut[1] == value] = 0.45 * plain[cut[1] == value] + 0.55 * np.array(to_rgb(colour))
        for row, tile in zip(rows, (plain, coloured), strict=True):
            shape = (round(tile.shape[1] * width * 1.9), round(tile.shape[0] * height * 1.9))
            as_image = Image.fromarray((255 * tile).astype(np.uint8)).resize(shape, Image.Resampling.BICUBIC)
            row.append(np.asarray(as_image))
    tallest = max(tile.shape[0] for tile in rows[0])
    strips = [np.concatenate([_padded(tile, tallest) for tile in row], axis=1) for row in rows]
    shrink(Image.fromarray(np.concatenate(strips)), picture, width=1000)


def _padded(tile: npt.NDArray[Any], height: int) -> npt.NDArray[Any]:
    above = (height - tile.shape[0]) // 2
    return np.pad(tile, ((above, height - tile.shape[0] - above), (6, 6), (0, 0)))


def photograph(page: Path, picture: Path) -> None:
    """The top of a page as Chromium shows it."""
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if program is None:
        sys.exit(f"no browser: install one of {', '.join(CHROMIUM)}")
    photo = page.with_suffix(".png")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1240,1000")
    subprocess.run([program, *flags, f"--screenshot={photo}", page.resolve().as_uri()], check=True)
    shrink(Image.open(photo), picture, width=1240)


def shrink(image: Image.Image, picture: Path, width: int) -> None:
    """Write a PNG that is at most so wide, with a palette, which makes it a third as large."""
    image = image.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
