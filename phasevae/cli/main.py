"""The command line: `phasevae VERB`. Each rule of the workflow calls a verb, so each step can be run by hand."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from phasevae import __version__
from phasevae.cli.parent import end_with_parent
from phasevae.errors import InputError

VERBS = {
    "dataset": "data",
    "spectrum": "data",
    "moments": "data",
    "predict": "predict",
    "plan": "sweep",
    "train": "sweep",
    "collect": "sweep",
    "fit": "analysis",
    "refine": "analysis",
    "bracket": "analysis",
    "hysteresis": "sweep",
    "stability": "analysis",
    "diagnose": "diagnose",
    "plot": "analysis",
    "summary": "results",
    "manifest": "results",
    "verify": "results",
    "export": "results",
    "doctor": "doctor",
}
"""The verbs, in the order in which --help lists them, and the modules of phasevae.cli that define them."""


class _Commands(Mapping[str, TyperCommand]):
    """The commands of all verbs. A module is imported when one of its verbs is asked for."""

    def __getitem__(self, verb: str) -> TyperCommand:
        name = VERBS[verb]
        try:
            module = importlib.import_module(f"phasevae.cli.{name}")
        except KeyError as error:  # `get` would take it for a verb that does not exist
            raise ImportError(f"phasevae.cli.{name}: {error!r}") from error
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cls=_Verb)(getattr(module, verb))
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class _Group(TyperGroup):
    """All verbs."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class _Verb(TyperCommand):
    """A command that says how an argument is given when somebody writes it as an option, and which value is wrong."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            message, parameter = getattr(error, "message", ""), getattr(error, "param", None)
            if parameter is not None and message.startswith(_WRONG_VALUE):
                must = message.removeprefix(_WRONG_VALUE).partition(",")[0].rstrip(".")
                must = _IN_WORDS.get(must, must)
                names = " / ".join(parameter.opts)
                value = self.make_parser(ctx).parse_args(args=given)[0].get(parameter.name)
                shown = f"{value!r}, " if isinstance(value, str) else ""  # an option given several times has a list
                raise InputError(f"{names}: {shown}must be {must}") from None
            arguments = [parameter.name for parameter in self.params if parameter.param_type_name == "argument"]
            # Only the error of an unknown or misused option has its name.
            option = getattr(error, "option_name", "")
            if option.removeprefix("--").replace("-", "_") not in arguments:
                raise
            form = " ".join([ctx.command_path, *(name.upper() for name in arguments)])
            raise InputError(f"{option}: is an argument, must be given by its place: {form} ...") from None


_WRONG_VALUE = "Input should be "
"""How typer begins to say what a value must be, in the words of pydantic, which leave out the value. A version with
other words shows its own message."""


_IN_WORDS = {"a valid integer": "a whole number", "a valid number": "a number"}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"phasevae {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Posterior collapse of variational autoencoders, predicted and measured as a phase transition."""


def main() -> None:
    """Run a verb. Bad input ends it with one line on standard error and exit code 2, a signal with 128 + its number."""
    warnings.showwarning = _show_warning
    logger = logging.getLogger("phasevae")
    logger.handlers = [_Messages()]
    logger.setLevel(logging.INFO)
    end_with_parent()
    try:
        code = app(prog_name="phasevae", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        _fail("aborted", 1)
    except InputError as error:
        _fail(str(error), 2)
    except MemoryError as error:
        _fail(f"not enough memory: {error}", 2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", 2)
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail_usage(error)
        signal_number = getattr(error, "signal_number", None)
        if signal_number is None:
            raise
        _fail(str(error), 128 + signal_number)


def _fail_usage(error: Any) -> None:
    """End with the one line of an error of typer about arguments, and the command that shows the help.

    The errors are recognised by their methods, as typer and click, which it may bring along, both have them.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # a command without arguments shows its help
        error.show()
        sys.exit(error.exit_code)
    text = error.format_message().rstrip(".")
    place = getattr(error, "ctx", None)
    help_of = f" (see {place.command_path} --help)" if place is not None else ""
    _fail(f"{text[:1].lower()}{text[1:]}{help_of}", error.exit_code)


def _fail(message: str, code: int) -> None:
    # Messages of libraries may have several lines.
    print(f"phasevae: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)


class _Messages(logging.Handler):
    """Shows the messages of a logger as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"phasevae: {record.getMessage()}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    print(f"phasevae: warning: {message}", file=sys.stderr)
