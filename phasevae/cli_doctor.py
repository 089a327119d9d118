"""The verb that tells what is at work here."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say which versions and which backends are at work here.

    Example: phasevae doctor --json
    """
    from phasevae.doctor import examine

    found = examine()
    if json_output:
        print(json.dumps(found, indent=1))
        return
    for name, version in found["versions"].items():
        print(f"{name:12} {version or 'not installed'}")
    for name, state in found["backends"].items():
        print(f"{name:12} {'available' if state['available'] else 'not available'}: {state['reason']}")
