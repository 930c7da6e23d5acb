"""One HTML page of tables and figures, readable without anything else."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import pandas as pd

from ddid.files import atomic_write

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px } th { text-align: left }
td, th { padding: .25em .7em; border-bottom: 1px solid #ddd; vertical-align: top }
img { max-width: 100% }
</style></head><body><h1>$title</h1>
$body
</body></html>
""")


def write_page(
    path: Path, title: str, tables: Mapping[str, pd.DataFrame], figures: Sequence[str]
) -> None:
    """Write headed tables (without their index) and the pictures `figures/NAME.png`."""
    parts = []
    for heading, table in tables.items():
        text = table.to_html(index=False, border=0)
        parts.append(f"<h2>{escape(heading)}</h2>\n{text}")
    parts += [f'<p><img src="figures/{name}.png" alt="{escape(name)}"></p>' for name in figures]
    with atomic_write(path) as temporary:
        page = PAGE.substitute(title=escape(title), body="\n".join(parts))
        temporary.write_text(page, encoding="utf-8")
