"""``atlaseg segment``: segment scans; label maps lie on the scans' own grids."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.console.exit_codes import DONE, SOME_FAILED
from atlaseg.workflows.methods.labelling_job import LabellingJob

if TYPE_CHECKING:
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.models import Models

__all__ = ["Segment"]


@dataclass(frozen=True)
class Segment(LabellingJob):
    """Segment scans with networks, atlases or a classical method: atlaseg segment RUN SCAN... --out LABELS.

    RUN is an output folder of `atlaseg train`; several networks (such as the folds) are averaged as an ensemble.
    RUN may also be a folder of labelled scans in any layout that `atlaseg train` takes: they are registered to each
    scan and their labels fused, without any training; a scan that is itself among them is segmented by the others.
    Without RUN, a --method for region growing starts from the seeds given by --seed.

    Label maps have the names and the exact geometry of the scans, and the label values of the data set. Scans that
    cannot be segmented are listed at the end. With atlases, NAME_atlases.json reports the quality of each registration,
    which atlases were left out and why, and the same command resumes after an interruption.
    """

    def run(self) -> int:
        """Segment all scans; returns 0, or 1 where a scan failed or a region has leaked over most of it.

        Raises:
            AtlasegError: no scan can be labelled at all (no such model, no scans).
        """
        from atlaseg.pipeline.errors import AtlasegError, FullDiskError
        from atlaseg.pipeline.failures import user_error
        from atlaseg.pipeline.schema import check_ranges
        from atlaseg.workflows.console.screen import printable
        from atlaseg.workflows.inputs.scan_files import FoundScans, digits_of, find_scans, validation_scans
        from atlaseg.workflows.methods.models import find_models

        check_ranges(self)
        models = find_models(self)
        self._check(models)
        failed: dict[str, str] = {}
        with models.source.labeller(self, models.folders) as labeller:
            found = (
                FoundScans(validation_scans(models.folders[0], self.dataset), {}, ())
                if self.validation
                else find_scans(models.rest, labeller.channels, digits_of(models.folders))
            )
            scans = found.files
            failed.update(found.problems)
            for note in found.notes:
                print(note, file=sys.stderr)
            for number, (name, files) in enumerate(scans.items(), start=1):
                try:
                    self._one(labeller, name, files, f"[{number}/{len(scans)}] {name}")
                except FullDiskError:
                    raise  # the next would fare no better
                except (AtlasegError, RuntimeError, MemoryError) as error:
                    # torch reports exhausted memory as RuntimeError; the batch goes on all the same
                    reason = printable(str(user_error(error, str(files[0]), "cannot be labelled")))
                    named = any(str(file) in reason for file in files)
                    failed[name] = reason if named else f"{printable(str(files[0]))}: {reason}"
            if not failed:
                labeller.finish()
        total = len(scans) + len(found.problems)
        print(f"{total - len(failed)} of {total} scans labelled in {self.out}")
        for name, reason in failed.items():
            print(f"FAILED {printable(name)}: {reason}", file=sys.stderr)
        for name, reason in labeller.doubtful.items():
            print(f"LEAKED {printable(name)}: {reason}", file=sys.stderr)
        return SOME_FAILED if failed or labeller.doubtful else DONE

    def _check(self, models: Models) -> None:
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.workflows.methods.families import SOURCES, refuse_options_of_others

        if self.validation and (problem := models.source.keeps_no_cases(models.folders)):
            raise OptionError(f"--validation: {problem}")
        if self.validation and (models.rest or len(models.folders) > 1):
            raise OptionError("--validation labels the validation cases of one run: name that run alone")
        if self.dataset is not None and not self.validation:
            raise OptionError(
                "--dataset says where the cases of --validation are: give both, or name scans alone"
            )
        if not self.validation and not models.rest:
            raise OptionError("give the scans, or folders of scans, to segment after the run")
        subject = str(models.folders[0]) if models.folders else f"--method {self.seeds.method}"
        refuse_options_of_others(self, "labelling", SOURCES, models.source, subject)

    def _one(self, labeller: Labeller, name: str, files: tuple[Path, ...], title: str) -> None:
        target = self.out / f"{name}.nii.gz"
        if any(self.out.resolve() in (file.parent.resolve(), file.resolve().parent) for file in files):
            from atlaseg.pipeline.errors import OptionError

            raise OptionError(
                f"{target}: the result would replace the scan, or be taken for one; choose another --out"
            )
        labeller.label(name, files, title).save(target, files[0])
