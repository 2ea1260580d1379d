"""Student's t, exactly: the one distribution that small samples need and the standard library lacks.

    P(T > t) = ½ I_x(ν/2, 1/2),  x = ν / (ν + t²),  t ≥ 0        (Abramowitz and Stegun 1964, 26.5.27, 26.7.1)

I is the regularised incomplete beta function, by its continued fraction (26.5.8, evaluated from the front, Lentz 1976).
"""

import math
from functools import lru_cache

_STEPS = 300
_TINY = 1e-300


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) for a, b > 0 and 0 ≤ x ≤ 1, to about 1e-14."""
    if not (a > 0 and b > 0 and 0.0 <= x <= 1.0):
        raise ValueError(f"the incomplete beta function needs a, b > 0 and 0 <= x <= 1, not {a}, {b}, {x}")
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly on this side only
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)) of 26.5.8."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, _STEPS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + term * d or _TINY)
        c = 1.0 + term / c or _TINY
        value *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return value


def t_tail(t: float, degrees: float) -> float:
    """P(T > t) with `degrees` > 0 degrees of freedom; t may be infinite."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    upper = 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))
    return upper if t >= 0 else 1.0 - upper


@lru_cache(maxsize=1024)
def t_quantile(probability: float, degrees: float) -> float:
    """The t with P(T ≤ t) = probability, 0 < probability < 1."""
    if not 0.0 < probability < 1.0:
        raise ValueError(f"a quantile needs a probability between 0 and 1, not {probability}")
    if probability < 0.5:
        return -t_quantile(1.0 - probability, degrees)
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1.0 - probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1.0 - probability else (low, middle)
    return (low + high) / 2
