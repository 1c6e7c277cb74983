"""Run the command line in this process, as a user would."""

import sys

import pytest

import ascent.cli


def call(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ascent", *words])
        with pytest.raises(SystemExit) as stop:
            ascent.cli.main()
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err
