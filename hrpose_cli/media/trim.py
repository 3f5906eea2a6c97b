"""A part of a clip: from START, included, to END, excluded, in seconds."""

from __future__ import annotations

from fractions import Fraction

from hrpose_cli.errors import UsageError

Trim = tuple[Fraction | None, Fraction | None]  # seconds as a player counts them; None: from the start, to the end
WHOLE: Trim = (None, None)


def parse_trim(text: str) -> Trim:
    """START:END in seconds, either of which may be left out; UsageError for anything else."""
    try:
        start, end = (Fraction(part) if part.strip() else None for part in text.split(":"))
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{text} is not START:END in seconds, such as 2.5:10, :10 or 2.5:") from error
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise UsageError(f"{text} holds no time: START:END needs 0 <= START < END")
    return start, end


def inside(time: Fraction, trim: Trim) -> bool:
    start, end = trim
    return (start is None or time >= start) and (end is None or time < end)
