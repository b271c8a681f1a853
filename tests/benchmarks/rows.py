"""The rows of a benchmark, for people or for programs."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Prints a table, or JSON with the key `rows`."""
    if as_json:
        print(json.dumps({"rows": rows}, indent=2))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
