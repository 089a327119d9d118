"""The one exception that means: the user can mend this."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input, told in one line: which file or key, the value found, what would be right.

    The command line prints the message without a traceback and exits with code 2.
    """
