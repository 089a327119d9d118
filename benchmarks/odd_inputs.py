"""Is anything read wrongly? Give a thousand odd files and objects to `phasevae` and judge what it makes of them.

    python benchmarks/odd_inputs.py                    1,000 inputs, minutes
    python benchmarks/odd_inputs.py --inputs 100       fewer of them

Files of every readable format are written by their libraries, with odd content, damaged bytes, wrong names and options
that do not fit; objects are those of numpy, pandas, polars, torch and others, and some that hold no samples. Each must
be refused in one line, or read: then number and shape of the samples and the spectrum must be those of an independent
reading with the libraries alone and numpy. Everything else is a fault: another exception, a reading that takes longer
than ten seconds, a wrong answer. The script prints the counts and every fault, and ends with exit code 1 if there is
any. Formats whose library is not installed are refused, which counts as right.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from odd_files import Case, content_case, damage_case, option_case, place_case
from odd_objects import object_case
from shared import child_environment, make_parser

if TYPE_CHECKING:
    from phasevae.spectrum.spectrum import Spectrum

MAKERS = (*[content_case] * 2, *[damage_case] * 3, place_case, option_case, *[object_case] * 2)
SECONDS = 10
TOLERANCE = 3e-7


class Verdict(NamedTuple):
    """What became of an input: "refused", "read", or "FAULT", and what was said about it."""

    state: str
    words: str


class TooSlowError(Exception):
    """A reading took longer than SECONDS."""


@contextmanager
def time_limit() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise TooSlowError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def make(number: int, folder: Path) -> Case:
    """The odd input of a number."""
    rng = random.Random(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MAKERS[number % len(MAKERS)](folder, rng)


def judge(case: Case) -> Verdict:
    """Give a case to `phasevae.compute_spectrum` and compare what it reads with an independent reading."""
    import phasevae
    from phasevae import InputError

    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spectrum = phasevae.compute_spectrum(case.data, **case.options)
    except InputError as error:
        is_right = len(str(error).splitlines()) == 1 and case.must != "read"
        return Verdict("refused" if is_right else "FAULT", str(error))
    except Exception:
        return Verdict("FAULT", traceback.format_exc())
    return _judge_reading(case, spectrum)


def _judge_reading(case: Case, spectrum: Spectrum) -> Verdict:
    said = f"was read: {spectrum.reading}"
    if case.must == "refuse":
        return Verdict("FAULT", said)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(case.read(spectrum.reading.columns), dtype=float)
    except NotImplementedError:
        return Verdict("read", "without a comparison")
    except Exception as error:
        return Verdict("FAULT", f"{said}; an independent reading fails: {error!r}")
    wrong = _difference(spectrum, expected)
    return Verdict("read", said) if wrong is None else Verdict("FAULT", f"{said}; {wrong}")


def _difference(spectrum: Spectrum, expected: np.ndarray) -> str | None:
    """What differs between a spectrum and that of samples [n, D] by numpy; None if nothing does."""
    rows = expected.reshape(len(expected), -1).astype(np.float32).astype(float)
    reading = spectrum.reading
    if (reading.n_samples, int(np.prod(reading.shape))) != rows.shape:
        return f"must be {rows.shape}"
    if not np.allclose([reading.low, reading.high], [rows.min(), rows.max()], rtol=1e-6):
        return f"must have values {rows.min()} to {rows.max()}"
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.T, bias=True).reshape(rows.shape[1], -1))[::-1]
    error = np.abs(spectrum.eigenvalues - eigenvalues).max() / eigenvalues[0]
    return None if error <= TOLERANCE else f"eigenvalues differ by {error:.2g} of the largest"


def judge_command(case: Case) -> Verdict:
    """Give a file to `phasevae spectrum` in a process of its own: exit code 0, or 2 and one line."""
    program = [sys.executable, "-c", "from phasevae.cli.main import main; main()"]
    command = [*program, "spectrum", str(case.data), "-o", f"{case.data}.out.json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=child_environment(), timeout=120)
    lines = [line for line in done.stderr.splitlines() if "warning:" not in line]
    if done.returncode == 0:
        return Verdict("read", done.stdout.strip())
    if done.returncode == 2 and len(lines) == 1:
        return Verdict("refused", lines[0])
    return Verdict("FAULT", f"exit code {done.returncode}: {done.stderr[-2000:]}")


def verdicts(numbers: range, every: int = 0) -> Iterator[tuple[int, str, Verdict]]:
    """Yield (number, what it was, verdict) of odd inputs; of the files, each `every`-th goes to the command as well."""
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            case = make(number, Path(name))
            yield number, case.what, judge(case)
            if every and number % every == 0 and isinstance(case.data, Path) and not case.options:
                yield number, f"{case.what}, on the command line", judge_command(case)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="how many odd inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--every", type=int, default=20, help="give each of so many files to the command as well")
    parser.add_argument("--list", action="store_true", help="print every verdict")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for number, what, verdict in verdicts(range(options.first, options.first + options.inputs), options.every):
        counts[verdict.state] += 1
        if options.list or verdict.state == "FAULT":
            words = verdict.words.strip().replace("\n", "\n    ")
            print(f"{number}: {what}\n    {verdict.state}: {words}", flush=True)
    print(f"{options.inputs} odd inputs: {dict(counts)}")
    sys.exit(1 if counts["FAULT"] else 0)


if __name__ == "__main__":
    main()
