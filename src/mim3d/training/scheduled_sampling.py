"""How often the true frame is fed in place of the network's own forecast, as training goes on."""

from __future__ import annotations

import math

import numpy as np

from mim3d.errors import UserError


class LinearScheduledSampling:
    """Scheduled sampling whose probability falls by the same amount every step, then stops.

    The arithmetic is that of the original MIM programs: the probability is decreased before the first draw,
    and subtracted step by step in float64.

    Parameters
    ----------
    start
        Probability of feeding the true frame before the first step, 0 to 1.
    rate
        How much it falls every step.
    stop
        Step (counted from 1) from which it is 0.

    Raises
    ------
    UserError
        If an argument is out of range.

    References
    ----------
    Bengio et al. 2015, arXiv 1506.03099.

    Examples
    --------
    >>> LinearScheduledSampling(start=1.0, rate=0.25, stop=10).probability(0)
    0.75
    """

    def __init__(self, start: float = 1.0, rate: float = 2e-5, stop: int = 50_000) -> None:
        if not 0 <= start <= 1:
            raise UserError(f"start must be a probability, 0 to 1, found {start}")
        if not (rate >= 0 and math.isfinite(rate)):
            raise UserError(f"rate must be at least 0, found {rate}")
        if stop < 0:
            raise UserError(f"stop must be at least 0, found {stop}")
        self.start = start
        self.rate = rate
        self.stop = stop
        steps = 0 if rate == 0 else min(stop, math.ceil(start / rate) + 1)
        # Rounding is part of the schedule: 0.85 - 0.15 - 0.15 is not 0.55.
        self._table = np.subtract.accumulate(np.array([start] + [rate] * steps, dtype=np.float64))[1:]

    def probability(self, iteration: int) -> float:
        """Probability of feeding the true frame at a step, `iteration` steps after the first."""
        if iteration + 1 >= self.stop:
            return 0.0
        if self.rate == 0:
            return self.start
        return max(0.0, float(self._table[iteration])) if iteration < len(self._table) else 0.0

    def draw(
        self, iteration: int, shape: tuple[int, int], random: np.random.RandomState | np.random.Generator
    ) -> np.ndarray:
        """Draw which true frames are fed at a step.

        Parameters
        ----------
        iteration
            Steps taken before.
        shape
            Sequences of the batch, and frames that may be fed: `(B, T - input_length - 1)`.
        random
            Where the numbers come from. They are drawn at every step, also where the probability is 0, so
            that the same seed gives the same numbers at the same step.

        Returns
        -------
        numpy.ndarray
            1 where the true frame is fed, else 0, float32.
        """
        return (random.random(shape) < self.probability(iteration)).astype(np.float32)
