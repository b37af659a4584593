"""`python -m harness.report requirements`: docs/requirements.md, made from the contracts in `tests/`."""

from __future__ import annotations

import argparse
import sys

from harness.report.catalogue import catalogue
from harness.report.requirements_page import requirements_page


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.report", description="pages made from the suite itself")
    parser.add_argument("what", choices=["requirements"], help="every requirement of the suite, as Markdown")
    parser.parse_args()
    sys.stdout.write(requirements_page(catalogue()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
