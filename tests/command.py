"""The command line called from a test, inside of this process: what it prints where, and its exit status."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pandas as pd

from nissl.cli import run


class Result(NamedTuple):
    """The exit status, and what came on standard output and on standard error."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one line of JSON that --json promises."""
        assert (self.status, self.out.count("\n")) == (0, 1), self
        return json.loads(self.out)

    @property
    def frame(self):
        """The table that was written as CSV."""
        assert self.status == 0, self
        return pd.read_csv(io.StringIO(self.out))


def call(*arguments):
    """Return the Result of `nissl ARGUMENTS`."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = run([str(argument) for argument in arguments])
    return Result(status, out.getvalue(), err.getvalue())


def fails(status, message, *arguments):
    """Check that a command prints nothing but, on standard error and after click's usage, one line that says why."""
    result = call(*arguments)
    *usage, line = result.err.splitlines() or [""]
    assert (result.status, result.out, line[:7]) == (status, "", "Error: "), result
    assert not usage or (status == 2 and usage[0].startswith("Usage: nissl")), result.err
    assert re.search(message, line), line
