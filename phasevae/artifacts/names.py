"""Parts of names that configurations and result files share."""

from __future__ import annotations

OWN = "module:"
"""A likelihood of the user's own is called module:FILE.py:NAME."""
