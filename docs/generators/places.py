"""Where texts of the repository stand on the site."""

from pathlib import Path

from ascent.records import shelf

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
SHELF = shelf.current()
SHELF_PLACE = SHELF.folder.resolve().relative_to(ROOT).as_posix()

# Texts that are shown as they are: place in the repository -> page of the site.
SITE = {
    "slurm/README.md": "guides/slurm.md",
    "records/README.md": "reference/records.md",
    "reports/README.md": "reference/reports.md",
    "reports/checking/README.md": "reference/checking.md",
    "reports/mirror/README.md": "reference/wandb.md",
    "runners/README.md": "reference/runners.md",
    "algorithms/README.md": "reference/algorithms.md",
    "suites/README.md": "reference/suites.md",
    "kernels/README.md": "reference/kernels.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    f"{SHELF_PLACE}/leaderboard.md": "results/leaderboard.md",
    f"{SHELF_PLACE}/datasheet.md": "results/datasheet.md",
    # Files that are offered as they are.
    f"{SHELF_PLACE}/leaderboard.html": "results/sortable.html",
    f"{SHELF_PLACE}/scores.csv": "results/scores.csv",
    f"{SHELF_PLACE}/curves.parquet": "results/curves.parquet",
    f"{SHELF_PLACE}/LICENSE.md": "results/licence.md",
    "reports/results": "results/leaderboard.md",
}
