"""The tables that a person reads of an ensemble."""

from rich.table import Table

from harness.ensembles.ensemble import Ensemble
from harness.ensembles.library import Library

# Of a member's configuration, what tells it from the others at a glance.
_SHOWN = ("loss", "reduction", "stride", "layers", "hidden")


def members_table(ensemble: Ensemble, library: Library) -> Table:
    """A row a member: weight, own score, configuration."""
    infos = {info.trial_id: info for info in library.matrix.infos}
    table = Table("trial", "weight", "mean PCC", "settings", title="Members", title_justify="left")
    for member, weight in zip(ensemble.members, ensemble.weights, strict=True):
        config = infos[member].config
        settings = " ".join(f"{name}={config[name]}" for name in _SHOWN if name in config)
        table.add_row(member, f"{weight:.3f}", f"{infos[member].val_pcc:.4f}", settings)
    return table


def targets_table(ensemble: Ensemble, library: Library) -> Table:
    """A row a target: PCC of the ensemble, of the best single trial, and the difference."""
    ids = [info.trial_id for info in library.matrix.infos]
    single = library.matrix.member_pcc()[ids.index(ensemble.best_single)]
    title = "PCC on val, the split that chose the members (optimistic)"
    table = Table("", "ensemble", f"trial {ensemble.best_single}", "gain", title=title)
    for name, ours, other in zip(ensemble.targets, ensemble.pcc, single, strict=True):
        table.add_row(name, f"{ours:.4f}", f"{other:.4f}", f"{ours - other:+.4f}")
    table.add_section()
    gain = ensemble.naive - single.mean()
    row = ("mean", f"{ensemble.naive:.4f}", f"{single.mean():.4f}", f"{gain:+.4f}")
    table.add_row(*row, style="bold")
    return table
