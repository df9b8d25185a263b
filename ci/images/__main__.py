"""Command line: builds an image, unless an archive of the same inputs is cached; prints the archive's path."""

from __future__ import annotations

import argparse
import subprocess
import sys

from .build import IMAGES, ImageError, ensure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m ci.images", description=__doc__)
    parser.add_argument("image", nargs="+", choices=sorted(IMAGES))
    options = parser.parse_args()
    try:
        for name in options.image:
            print(ensure(name))
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as error:
        print(f"error: no end after {error.timeout:.0f} s: {error.cmd}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
