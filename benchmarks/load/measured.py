"""Values as a plant's transmitters give them, for what a day writes. Pure.

Of twenty points (by their number):

- 14 are measured. A transmitter's converter has 12 bits (half of them), 14 or 16 (a quarter each); the process drifts
  by 1 to 5 % of the span within 20 to 120 minutes, and noise of +-1, 3 or 10 counts lies on it, anew each second. The
  counts are scaled to engineering units by zero and span, with a trim of each instrument's own (up to 0.1 %), and not
  rounded: so a PLC or a field device does it, and the mantissa is full. As doubles every other point is rounded to the
  instrument's digits, as a control system shows them.
- 3 are constant: set points, limits, ratings.
- 2 are totalisers: they count up by 0 to 3 tenths of a unit in a second.
- 1 is a state: 0 or 1, and changes every 5 to 40 minutes.

A value does not say which second it is of. What a receiver can check is that it is one that its point can have: on the
grid of its instrument, within the range of its drift. Trims differ, so those of another point mostly are not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.load.scramble import scramble

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
DOUBLES: Final = 40_000
"""number of the first point that is served as doubles; those before are float32"""
_BITS: Final = np.array((12, 14, 12, 16))
_NOISE: Final = np.array((1, 3, 1, 10))
"""counts, of each of the converters"""
_SPANS: Final = np.array((1.6, 10.0, 100.0, 150.0, 250.0, 400.0, 6.3, 1200.0))
_DIGITS: Final = np.array((4, 3, 2, 2, 2, 1, 4, 1))
"""after the point, of each of the spans: finer than 12 bits, coarser than 16"""
_ZEROS: Final = np.array((0.0, -1.0, 0.0, -50.0))
_CONSTANTS: Final = np.array((85.0, 2.5, 0.4, 1500.0, 63.0))
_UNIT: Final = 0.1
_MEASURED, _CONSTANT, _TOTAL = 14, 17, 19
"""of twenty, the first that is not one any more"""
_HASH_BITS: Final = 40


def shown(second: int, points: Ints) -> Floats:
    """float64[n]: what `points` show in a second, before a float32 rounds it."""
    kind = points % 20
    instrument = _Instruments(points)
    values = instrument.scaled(instrument.counts(second))
    values = np.where(kind >= _MEASURED, _constant(points), values)
    rate = 0.5 + points % 7 / 2.5  # tenths of a unit in a second
    values = np.where(kind >= _CONSTANT, (_base(points) + np.floor(rate * second)) * _UNIT, values)
    period = 300 + _draw(points, 5) * 2100
    state = np.floor(second / period + _draw(points, 6)) % 2
    found: Floats = np.where(kind >= _TOTAL, state, values)
    return found


def wrong_readings(points: Ints, values: Floats) -> npt.NDArray[np.bool_]:
    """bool[n]: whether a point can never show that value."""
    kind = points % 20
    single = points < DOUBLES
    exact = np.where(single, 2.0**-22, 2.0**-50) * np.abs(values)
    instrument = _Instruments(points)
    fails = ~instrument.can_show(values, exact)
    constant = np.abs(values - _constant(points)) > exact
    fails = np.where(kind >= _MEASURED, constant, fails)
    tenths = values / _UNIT
    total = (np.abs(tenths - np.rint(tenths)) > exact / _UNIT + 1e-6) | (np.rint(tenths) < _base(points))
    fails = np.where(kind >= _CONSTANT, total, fails)
    found: npt.NDArray[np.bool_] = np.where(kind >= _TOTAL, (values != 0) & (values != 1), fails)
    return found


class _Instruments:
    """The transmitters of some points."""

    def __init__(self, points: Ints) -> None:
        self._points = points
        self._full = 2.0 ** _BITS[points % 4] - 1
        self._noise = _NOISE[points % 4]
        span = points // 4 % len(_SPANS)
        self._span = _SPANS[span] * (0.999 + 0.002 * _draw(points, 1))
        self._zero = _ZEROS[points // 32 % len(_ZEROS)] * _SPANS[span] / 100
        self._digits = 10.0 ** _DIGITS[span]
        self._rounded = (points >= DOUBLES) & (points % 2 == 0)
        self._centre = (0.2 + 0.6 * _draw(points, 2)) * self._full
        self._swing = (0.01 + 0.04 * _draw(points, 3)) * self._full
        self._period = 1200 + 6000 * _draw(points, 4)

    def counts(self, second: int) -> Floats:
        """What the converters give: drift and noise."""
        drift = self._centre + self._swing * np.sin(2 * np.pi * (second / self._period + _draw(self._points, 7)))
        noise = np.floor(_draw(self._points, 8 + second) * (2 * self._noise + 1)) - self._noise
        found: Floats = np.rint(drift) + noise
        return found

    def scaled(self, counts: Floats) -> Floats:
        """In engineering units."""
        exact = self._zero + self._span * counts / self._full
        found: Floats = np.where(self._rounded, np.rint(exact * self._digits) / self._digits, exact)
        return found

    def can_show(self, values: Floats, exact: Floats) -> npt.NDArray[np.bool_]:
        """Whether a value lies on the grid and within the drift, give or take `exact`."""
        step = self._span / self._full
        counts = (values - self._zero) / step
        rounding = np.where(self._rounded, 0.5 / self._digits, 0.0) + exact
        on_grid = np.abs(counts - np.rint(counts)) <= rounding / step + 1e-6
        digits = values * self._digits
        in_digits = ~self._rounded | (np.abs(digits - np.rint(digits)) <= 1e-6)
        within = np.abs(counts - self._centre) <= self._swing + self._noise + 1 + rounding / step
        found: npt.NDArray[np.bool_] = on_grid & in_digits & within
        return found


def _constant(points: Ints) -> Floats:
    return _CONSTANTS[points // 20 % len(_CONSTANTS)]


def _base(points: Ints) -> Floats:
    """Tenths that a totaliser begins with."""
    return np.floor(_draw(points, 9) * 1_000_000)


def _draw(points: Ints, what: int) -> Floats:
    """float64[n] in [0, 1): as if drawn once for each point and `what`."""
    noise = scramble((points * 1_000_003 + what * 7_919) % (1 << _HASH_BITS), _HASH_BITS)
    return scramble(noise, _HASH_BITS) / float(1 << _HASH_BITS)
