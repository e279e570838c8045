"""Exact sums of floats, which do not depend on the order. numpy sums up the blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

NAN, PLUS, MINUS = "nan", "inf", "-inf"
"""Floats that JSON does not have."""


def json_float(value: float) -> float | str:
    """A float as JSON can represent it: finite, or else its name as text."""
    return value if math.isfinite(value) else str(value)


@dataclass(frozen=True, slots=True)
class ExactSum:
    """A sum of floats without any rounding.

    Args:
        mantissa, exponent: the sum of all finite floats is mantissa * 2**exponent.
        special: "" = all were finite; otherwise the name of the sum: nan, inf or -inf.
    """

    mantissa: int = 0
    exponent: int = 0
    special: str = ""

    @classmethod
    def of(cls, value: float, exponent: int = 0) -> ExactSum:
        """The sum of one float, times 2**exponent."""
        if not math.isfinite(value):
            return cls(special=str(value))
        numerator, denominator = value.as_integer_ratio()
        return cls(numerator, exponent + 1 - denominator.bit_length())

    @classmethod
    def parse(cls, text: str) -> ExactSum:
        """The inverse of `str`."""
        if text in (NAN, PLUS, MINUS):
            return cls(special=text)
        mantissa, _, exponent = text.partition("p")
        return cls(int(mantissa, 16), int(exponent))

    def __str__(self) -> str:
        """Text such as "-0x1fp-3", or the special value."""
        if self.special:
            return self.special
        mantissa, exponent = self.mantissa, self.exponent
        zeros = (mantissa & -mantissa).bit_length() - 1 if mantissa else 0
        return f"{mantissa >> zeros:#x}p{exponent + zeros}"

    def __add__(self, other: ExactSum) -> ExactSum:
        """The sum of both; infinities of opposite signs give nan."""
        if self.special or other.special:
            special = {self.special, other.special} - {""}
            return ExactSum(special=special.pop() if len(special) == 1 else NAN)
        low = min(self.exponent, other.exponent)
        mantissa = (self.mantissa << self.exponent - low) + (other.mantissa << other.exponent - low)
        return ExactSum(mantissa, low)

    def divided(self, count: int) -> float:
        """The sum divided by a count, rounded once; infinite if no float is that large."""
        if self.special:
            return float(self.special)
        exact = Fraction(self.mantissa) * Fraction(2) ** self.exponent / count
        try:
            return float(exact)
        except OverflowError:
            return math.inf if exact > 0 else -math.inf
