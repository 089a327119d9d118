"""The one exception that means: the user can mend this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from phasevae.wording import suggestion


class InputError(ValueError):
    """Bad input, explained in one line: the file or key, its value, and what would be right.

    The command line prints the message without a traceback and exits with code 2.
    """


def no_such_choice(
    place: str, value: object, choices: Iterable[str], synonyms: Mapping[str, tuple[str, ...]] | None = None
) -> InputError:
    """Return the error for a value that is none of the choices, with the choice that was probably meant.

    Parameters
    ----------
    place : str
        Name of the option or key.
    value : object
        What the user gave.
    choices : iterable of str
    synonyms : mapping, optional
        See `wording.suggestion`.
    """
    return InputError(f"{place}: {value!r}, {suggestion(value, choices, 'must be one of', synonyms)}")
