"""Tables of the scores of a network on annotated faces."""

import pandas as pd

from harness.encoders.mtl_dan.network import EXPRESSIONS
from harness.pretraining.scores import Details, Scores


def score_table(scores: Scores, details: Details) -> pd.DataFrame:
    """One row per class, unit and dimension that is scored: measure, of, score, support.

    support: for expressions and units, faces that have it, of the faces with a valid label.
    """
    rows = [
        (measure, label, f"{value:.4f}", details.support(measure, label))
        for measure, label, value in scores.rows()
    ]
    rows += [(f"mean {name}", "", f"{value:.4f}", "") for name, value in scores.means().items()]
    rows.append((scores.p_mtl_name, "", f"{scores.p_mtl:.4f}", ""))
    return pd.DataFrame(rows, columns=["measure", "of", "score", "faces"])


def confusion_table(details: Details) -> pd.DataFrame:
    """The faces by labelled (rows) and predicted expression; empty without labels."""
    if not details.confusion.sum():
        return pd.DataFrame()
    table = pd.DataFrame(details.confusion.astype(str), columns=list(EXPRESSIONS))
    table.insert(0, "labelled", list(EXPRESSIONS))
    return table
