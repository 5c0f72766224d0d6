"""Where the command `nissl` begins: outside the package, so that Ctrl-C is one word while that is imported too."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from nissl.cli import main

        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201  (click may not be there yet)
        sys.exit(130)
