"""``atlaseg train``: train a method on a data set; the result is a bundle folder."""

from __future__ import annotations

from dataclasses import dataclass

from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["Train"]


@dataclass(frozen=True)
class Train(TrainingJob):
    """Train a network or a classical method on the labelled cases of a data set, or prepare them as atlases.

    OUT becomes a MONAI bundle. For a network, `python -m monai.bundle run` can also train with OUT/configs/train.yaml
    and segment with OUT/configs/inference.yaml. For an atlas method the cases are checked and copied into OUT, which
    can be moved to another machine; with --correct (by default with few atlases) a correction of systematic errors is
    learnt from them. A classical method learns the appearance and location of structures in seconds to minutes. The
    same command resumes after an interruption.
    """

    def run(self) -> int:
        """Train, or resume; returns 0.

        Raises:
            OptionError: OUT holds a run of another command, or options exclude each other.
            DatasetError: the data set has errors that `atlaseg check` lists.
        """
        from atlaseg.pipeline.schema import check_ranges
        from atlaseg.workflows.inputs.run_request import is_begun, request_of
        from atlaseg.workflows.methods.families import (
            FAMILIES,
            default_method,
            find_method,
            refuse_options_of_others,
        )

        check_ranges(self)
        method = default_method() if self.method is None else find_method(self.method)
        refuse_options_of_others(self, "training", FAMILIES, method.family, f"method {method.name}")
        method.family.check(self, method)
        request = request_of(self, method)
        begun = is_begun(self, request, method)
        method.family.train(self, method, request, begun=begun)
        return 0
