"""`./wm view`: a page in the browser for a graph that runs already."""

from __future__ import annotations

import argparse
import os
import secrets

from wm_bridge.cli.domain import find_domain


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm view", description="Shows a running graph in the browser, takes goals there, and stops the arm.")
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 = any free one (default 8080)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; one that other machines reach needs --token (default 127.0.0.1)")
    parser.add_argument("--token", nargs="?", const="", metavar="TOKEN", help="who opens the page has to know it; without TOKEN one is made and printed")
    parser.add_argument("--robot", default="nico", help="name in config/robots or path of a YAML file (default nico)")
    parser.add_argument("--namespace", default="", help="of the graph, where two arms share a domain")
    parser.add_argument("--domain", type=int, metavar="N", help="ROS_DOMAIN_ID of the graph (default: the one that runs here)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the view until Ctrl-C."""
    args = parse(argv)
    from wm_bridge.nodes import view
    from wm_bridge.view.gate import check_host

    token = os.environ.get(view.TOKEN, "")
    if args.token is not None:
        token = args.token or secrets.token_urlsafe(18)
    check_host(args.host, token)
    os.environ["ROS_DOMAIN_ID"] = str(find_domain(args.domain))
    os.environ[view.TOKEN] = token
    if args.token == "":
        print(f"token: {token}", flush=True)
    own = [word for name in ("host", "port", "robot") for word in ("-p", f"{name}:={getattr(args, name)}")]
    if args.namespace:
        own += ["-r", f"__ns:=/{args.namespace.strip('/')}"]
    return view.main(["--ros-args", "--disable-external-lib-logs", *own])
