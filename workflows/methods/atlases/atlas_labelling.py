"""``atlaseg segment`` for atlases: a run of an atlas method, or a folder of labelled scans."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.labeller import Labeller

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    import numpy.typing as npt
    from monai.data import MetaTensor

    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.labelling_job import LabellingJob

__all__ = ["WORK", "AtlasLabeller", "open_atlases"]

#: Finished registrations; in the folder that a job writes, until it is finished.
WORK = ".registrations"


def open_atlases(source: Path, job: LabellingJob) -> MultiAtlasSegmenter:
    """The atlases of a run, or of a folder of labelled scans, with what was chosen besides.

    Args:
        source: run of atlases, or folder of labelled scans.
        job: whose options replace those of the run.

    Raises:
        AtlasegError: the source cannot be used, or a choice is not possible.
    """
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter

    given = {name: getattr(job.atlas, name) for name in ("transform", "engine", "linear", "keep")}
    chosen = {name: value for name, value in given.items() if value is not None}
    if job.atlas.different_modality:
        chosen["same_modality"] = False
    if is_atlas_bundle(source):
        segmenter = MultiAtlasSegmenter.load(source)
        learnt = segmenter.is_corrected
        segmenter.choose(fusion=job.atlas.fusion, **chosen)
        if learnt and not segmenter.is_corrected:
            print(f"{source}: its correction is not used, since it was learnt with other options", flush=True)
        return segmenter
    segmenter = MultiAtlasSegmenter().choose(fusion=job.atlas.fusion, **chosen)
    with ThreadPoolExecutor() as executor:
        segmenter.executor = executor
        segmenter.fit_atlases(AtlasSet.read(source, executor=executor))
        segmenter.executor = None
    return segmenter


class AtlasLabeller(Labeller):
    """Segments scans with atlases; a context manager, because it holds worker processes.

    Args:
        segmenter: the atlases, as :func:`open_atlases` opens them.
        job: what was asked for; reports, and finished registrations while it is under way, are in its folder.

    Raises:
        OptionError: there are no such masks.
    """

    def __init__(self, segmenter: MultiAtlasSegmenter, job: LabellingJob) -> None:
        from atlaseg.workflows.inputs.scan_masks import refuse_missing_masks

        super().__init__()
        refuse_missing_masks(job.masks)
        self.job, self.choices, self._segmenter = job, job.atlas, segmenter
        self._executor: Executor | None = None
        self._digests: dict[Path, str] = {}
        self._work = job.atlas.work or job.out / WORK

    def close(self) -> None:
        """End the worker processes."""
        self._stop_workers()

    @property
    def channels(self) -> int:
        """Number of channels of the scans."""
        return len(self._segmenter.atlases.channels)

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan; writes the report ``NAME_atlases.json`` and prints a line.

        A scan that is itself one of the atlases, by its file, is labelled by the others.

        Raises:
            AtlasegError: the scan cannot be read or registered.
        """
        from atlaseg.pipeline.io.files import write_text
        from atlaseg.pipeline.io.result_files import atlases_file
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.pipeline.progress import ProgressDisplay
        from atlaseg.workflows.inputs.scan_masks import mask_of

        segmenter = self._segmenter
        image, mask, own = (
            read_image(files),
            mask_of(self.job.masks, name, files[0]),
            self._own_atlas(files),
        )
        segmenter.executor, segmenter.work = self._workers(), self._work / name
        segmenter.threads = self.choices.threads or 1
        with ProgressDisplay(title, len(segmenter.atlases), "registration") as bar:
            try:
                propagation = segmenter.propagate(image, mask=mask, without=own, progress=bar)
            except RuntimeError as error:
                if _is_broken(error):
                    self._stop_workers()  # the next scan gets new ones
                raise
        # a correction has seen the labels of every atlas, this scan's own among them
        result = self._result(image, propagation, mask, corrected=own is None)
        report = json.dumps(self._report(propagation, own), indent=1)
        write_text(atlases_file(self.job.out / f"{name}.nii.gz"), f"{report}\n")
        print(f"{title}: {_summary(propagation, own)}", flush=True)
        return result

    def _result(
        self,
        image: MetaTensor,  # noqa: ARG002
        propagation: Propagation,
        mask: npt.NDArray[np.bool_] | None,  # noqa: ARG002
        *,
        corrected: bool,
    ) -> Segmentation:
        """Labels of a scan to which the atlases have been carried."""
        return self._segmenter.fuse(propagation, probabilities=self.job.probabilities, corrected=corrected)

    def finish(self) -> None:
        """Remove the finished registrations, unless the user named a folder to keep them in."""
        if self.choices.work is None:
            shutil.rmtree(self._work, ignore_errors=True)

    def _own_atlas(self, files: tuple[Path, ...]) -> str | None:
        """Name of the atlas that is this scan: the same file, or the same voxels (a run has copies)."""
        scan = {path.resolve() for path in files}
        for atlas in self._segmenter.atlases.atlases:
            if scan & {path.resolve() for path in atlas.images} or self._same_voxels(
                files[0], atlas.images[0]
            ):
                return atlas.name
        return None

    def _same_voxels(self, scan: Path, atlas: Path) -> bool:
        """Whether two images hold the same scan; voxels are read only where the headers agree."""
        import numpy as np

        from atlaseg.pipeline.io.volume import read_header

        first, second = read_header(scan), read_header(atlas)
        if first.shape != second.shape or not np.allclose(first.affine, second.affine, atol=1e-3):
            return False
        return self._digest(scan) == self._digest(atlas)

    def _digest(self, path: Path) -> str:
        """Of the voxels of an image, each of which is read once: many atlases may be on one grid."""
        import numpy as np

        from atlaseg.atlases.propagation.work_folder import digest_of_arrays
        from atlaseg.pipeline.io.volume import read_voxels

        if path not in self._digests:
            self._digests[path] = digest_of_arrays(read_voxels(path).astype(np.float32) + 0.0)  # one zero
        return self._digests[path]

    def _workers(self) -> Executor | None:
        """Worker processes, or none where one registration at a time is all there is."""
        from atlaseg.pipeline.system.worker_processes import available_cores, worker_pool

        number = self.choices.workers or available_cores()
        number = min(number, len(self._segmenter.atlases))
        if number > 1 and self._executor is None:
            self._executor = worker_pool(number)
        return self._executor

    def _stop_workers(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _report(self, propagation: Propagation, own: str | None) -> dict[str, Any]:
        from atlaseg.pipeline.slice_borders import plain_borders

        left_out = dict(propagation.left_out)
        chosen = {propagation.carried[n].name for n in propagation.chosen}
        carried = [
            {
                "name": atlas.name,
                "used": atlas.name in chosen,
                "reason": left_out.pop(atlas.name, None),
                "linear": atlas.linear,
                "seconds": round(atlas.seconds, 2),
                "quality": _rounded(asdict(atlas.quality)),
            }
            for atlas in propagation.carried
        ]
        others = [*left_out.items(), *propagation.failed]
        if own is not None:
            others.append((own, "it is the scan itself"))
        unused = [{"name": name, "used": False, "reason": reason} for name, reason in others]
        learnt = {
            "corrected": self._segmenter.is_corrected and own is None,
            "slice_borders": plain_borders(self._segmenter.borders if own is None else ()),
        }
        return {**self._segmenter.settings.as_dict(), **learnt, "atlases": [*carried, *unused]}


def _rounded(figures: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def _summary(propagation: Propagation, own: str | None) -> str:
    """Which atlases took part, in one line."""
    without = [*propagation.failed, *propagation.left_out]
    if own is not None:
        without.insert(0, (own, "it is the scan itself"))
    total = len(propagation.chosen) + len(without)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in without)
    return f"{len(propagation.chosen)} of {total} atlases fused" + (
        f", left out {reasons}" if reasons else ""
    )


def _is_broken(error: BaseException) -> bool:
    from concurrent.futures import BrokenExecutor

    return isinstance(error, BrokenExecutor) or isinstance(error.__cause__, BrokenExecutor)
