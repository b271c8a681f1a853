"""All figures of a study, except those of single clips."""

from harness.reports.drawing import Drawing
from harness.reports.ensemble_figures import ensemble_drawings
from harness.reports.evidence import Evidence
from harness.reports.search_figures import search_drawings


def drawings(evidence: Evidence) -> list[Drawing]:
    """The figures of the search and of the shown ensemble; their keys are unique."""
    return [*search_drawings(evidence), *ensemble_drawings(evidence)]
