"""The command that draws the figures and tables of a paper."""

from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import RUNS, Runs, default_folder, group, note

app = group()
_FILES = (".json", ".toml", ".zip")  # of a manifest, a sweep and a bundle


@app.command()
def figures(
    report: Annotated[
        str,
        typer.Argument(
            help="Folder of a report, a sweep, its manifest, a folder of run records, or a bundle."
        ),
    ],
    venue: Annotated[str, typer.Option(help="neurips, icml, iclr, jmlr or rlc.")] = "neurips",
    width: Annotated[
        str, typer.Option(help="column or text: how wide the figures and tables are.")
    ] = "column",
    systems: Annotated[
        str | None,
        typer.Option(help="Which systems, in this order, such as sac,ppo. Default: all, sorted by name."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help='Names to show instead, such as "ppo=PPO,sac=SAC (ours)".')
    ] = None,
    font_size: Annotated[int, typer.Option(help="Size of the text in points, from 7 to 10.")] = 8,
    seeds: Annotated[bool, typer.Option("--seeds", help="Draw the curve of every seed, too.")] = False,
    form: Annotated[str, typer.Option("--format", help="Of the figures: pdf, png or svg.")] = "pdf",
    out: Annotated[Path | None, typer.Option(help="Folder for the files. Default: out/NAME-paper.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Draw the figures and tables of a paper, in the width of a venue's column or text.

    Include the figures without a width: their text has its true size. The numbers are those of the report:
    its estimator, its seeds and its family of comparisons, which captions.tex states.
    """
    from ascent.reports.paper.choice import parse_labels, parse_systems
    from ascent.reports.paper.venues import page
    from ascent.reports.paper.write import check, make, write
    from ascent.studies import study

    place = Path(report).resolve()
    out = out or default_folder(f"{place.stem if place.suffix in _FILES else place.name}-paper")
    size = page(venue, width, font_size)
    chosen, names = parse_systems(systems or "") or None, parse_labels(labels or "")
    check(out, form)
    paper = make(study(report, runs), size, chosen, names, seeds)
    for line in paper.notes:
        note(line)
    print(*write(paper, size, out, form), sep="\n")
