"""``atlaseg build-atlas``: a groupwise template and a probabilistic atlas from labelled scans."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from atlaseg.atlases.registration.defaults import DEFAULT_TRANSFORM
from atlaseg.pipeline.schema import Count, NotNegative, Seed, Whole
from atlaseg.workflows.console.exit_codes import DONE, SOME_FAILED

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.templates.probabilistic import ProbabilisticAtlas
    from atlaseg.atlases.templates.template import Template, TemplateOptions

__all__ = ["BuildAtlas"]


@dataclass(frozen=True)
class BuildAtlas:
    """Build a population template and probabilistic atlas from labelled scans: atlaseg build-atlas ATLASES --out DIR.

    DIR gets the mean image in the mean shape of all (images/template.nii.gz), the probability of each structure
    (probabilities.nii.gz, 4-D), the most probable labels (labels/template.nii.gz), transforms/NAME.h5 from the template
    to each scan, template.json with the figures of each round, and atlas.png. DIR can itself be used as an atlas.
    Finished registrations are kept in DIR/work, so the same command goes on after an interruption.
    """

    positional: ClassVar[tuple[str, ...]] = ("atlases",)

    atlases: Path
    """Folder of the labelled scans, in any layout that training reads."""
    out: Path
    """Folder for the atlas: a new folder, or that of the same command to resume it."""
    iterations: Count = 4
    """Number of iterations; in each, every scan is registered to the template of the previous one."""
    transform: Literal["rigid", "affine", "bspline", "syn", "deformable"] = DEFAULT_TRANSFORM
    """Type of transform; deformable ones start from rigid or affine, whichever aligns the scan better."""
    engine: str = "auto"
    """What registers, as `atlaseg methods --kind engine` lists; auto: the one that suits the transform."""
    sharpening: NotNegative = 0.0
    """Weight, 0 to 1, of a sharpened image in the template; sharpening also amplifies noise."""
    channel: Whole = 0
    """Channel to register and average, for multi-channel scans."""
    workers: Count | None = None
    """Number of parallel registrations; by default the number of cores."""
    seed: Seed = 0
    """Random seed."""

    def run(self) -> int:
        """Build and write; returns 0, or 1 where atlases had to be left out.

        Raises:
            OptionError: an option is out of range, or DIR is the folder of the scans.
            AtlasegError: a file is missing or broken, or registration failed for all but one.
        """
        from atlaseg.atlases.atlas_set import AtlasSet
        from atlaseg.atlases.templates.probabilistic import Members
        from atlaseg.atlases.templates.template import TemplateOptions
        from atlaseg.pipeline.errors import GeometryError, OptionError
        from atlaseg.pipeline.io.files import write_text
        from atlaseg.pipeline.system.worker_processes import available_cores, worker_pool

        options = TemplateOptions(
            stages=self.transform,
            engine=self.engine,
            iterations=self.iterations,
            sharpening=self.sharpening,
            channel=self.channel,
            seed=self.seed,
        )
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers must be at least 1, found {self.workers}")
        if self.out.resolve() == self.atlases.resolve():
            raise OptionError(f"{self.out}: the folder of the scans; choose another --out")
        atlases = AtlasSet.read(self.atlases)
        if not 0 <= self.channel < len(atlases.channels):
            raise GeometryError(
                f"{self.atlases}: scans have {len(atlases.channels)} channel(s), --channel {self.channel} was asked for"
            )
        workers = min(len(atlases), self.workers or available_cores())
        if workers == 1:
            template = self._build(atlases, options, None)
        else:
            with worker_pool(workers) as executor:
                template = self._build(atlases, options, executor)
        members = Members(atlases, template.transforms, template.image, channel=self.channel)
        atlas = members.atlas()
        atlas.save(self.out)
        members.save_transforms(self.out / "transforms")
        write_text(self.out / "template.json", json.dumps(template.report(), indent=1) + "\n")
        self._draw(atlas)
        self._say(template)
        return SOME_FAILED if template.left_out else DONE

    def _build(self, atlases: AtlasSet, options: TemplateOptions, executor: Executor | None) -> Template:
        from atlaseg.atlases.templates.template import build_template
        from atlaseg.pipeline.progress import ProgressDisplay

        atlases.check(executor=executor)
        total = len(atlases) * (options.iterations + 1) - 1
        with ProgressDisplay("building", total, "registration") as bar:
            return build_template(atlases, self.out / "work", options, executor=executor, progress=bar)

    def _draw(self, atlas: ProbabilisticAtlas) -> None:
        from atlaseg.atlases.registration.transforms.frames import from_itk
        from atlaseg.atlases.templates.template_picture import draw_atlas

        draw_atlas(
            self.out / "atlas.png",
            from_itk(atlas.template)[0],
            atlas.probabilities,
            atlas.template.GetSpacing(),
            atlas.labels.names,
            f"{atlas.name}: mean of {len(atlas.cases)} scans",
        )

    def _say(self, template: Template) -> None:
        print("round  mean displacement  affine    change  sharpness  agreement")
        for i in template.iterations:
            print(
                f"{i.number:5d} {i.displacement_mm:15.4f} mm {i.affine_mm:7.4f} {i.change:9.4f} "
                f"{i.sharpness:10.4f} {i.agreement:10.4f}"
            )
        for name, reason in template.left_out.items():
            print(f"left out: {name}: {reason}")
        print(f"atlas of {len(template.transforms)} scans: {self.out}")
