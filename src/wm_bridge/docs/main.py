"""`./wm docs`: the documentation as a site, built so that a link or an anchor that leads nowhere is an error."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from wm_bridge.errors import UserError


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm docs", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/site"), help="folder of the site, emptied first (default build/site)")
    parser.add_argument("--serve", type=int, nargs="?", const=8000, metavar="PORT", help="show it on this machine, and again after each change (default port 8000)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Build the site, or show it until Ctrl-C."""
    args = parse(argv)
    root = Path(__file__).resolve().parents[3]
    if not (root / "mkdocs.yml").is_file():
        raise UserError(f"wm docs: {root} holds no mkdocs.yml", "run it from a checkout, an installed package has no documents")
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # an announcement, not a warning about our pages
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s  %(message)s")
    if args.serve is not None:
        from mkdocs.commands.serve import serve

        print(f"http://localhost:{args.serve}  (Ctrl-C ends it)", flush=True)
        serve(str(root / "mkdocs.yml"), dev_addr=f"127.0.0.1:{args.serve}")
        return 0
    build(root, args.out.absolute())
    print(args.out / "index.html")
    return 0


def build(root: Path, out: Path) -> None:
    """Build the site of a checkout.

    Raises:
        UserError: a page, a link or an anchor is wrong; mkdocs has said which.
    """
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort, ConfigurationError
    from pymdownx.superfences import SuperFencesException

    try:
        config = load_config(str(root / "mkdocs.yml"), site_dir=str(out), strict=True)
    except ConfigurationError as error:
        raise UserError(f"mkdocs.yml: {error}", "correct it") from error
    config.plugins.on_startup(command="build", dirty=False)
    try:
        build(config)
    except Abort as error:
        raise UserError("the site is not built: see the warnings above", "mend the page that is named there") from error
    except SuperFencesException as error:
        raise UserError(f"the site is not built: {error}", "mend the equation") from error
    finally:
        config.plugins.on_shutdown()
