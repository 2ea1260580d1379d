"""What would an item score had it never been trained on? Nobody retrains: the control and an ignorant LLM tell.

An LLM that never saw the data (the base version, or one of another family) finds an item easy or hard as any ignorant
LLM would. Its score x explains the never-trained score y of the control under the LLM in question, and what it says
of a forget item is held against the item's own score:

    e = a + b·x,  (a, b) by least squares on the control;   departure d = y - e

Items about one subject are alike: y - e = subject effect + item effect, with variances σ²_subject and σ²_item,
estimated on the control. So one person's mean departure has an error even though there is only one person:

    Var(mean d) = σ²_subject Σ_j (m_j/M)² + σ²_item/M + Var(a + b·mean x)

That is A·MSB + B·MSW, the control's mean squares between and within its subjects (variance_components.py), and t has
Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946):

    A = w_subject/n₀,  B = w_item - A,  w the weights of the two variances;
    ν = Var² / ((A·MSB)²/(k-1) + (B·MSW)²/(N-k)),   1 to k-1; k and N one fewer with a slope

With as many items of the forgotten person as of each control subject it is k-1, and exact for the mean alone; with more
it is fewer, since then the share of the items is taken off an uncertain estimate. It is never more: with six subjects
or fewer, ν alone would reject up to 7 % at a nominal 2.5 %, where σ²_subject came out negative and is read as 0.

A control of one item a person cannot tell how alike one's items are, and they are taken for one: the error of one
forgotten person's mean is then that of a single item. It takes for granted that forget subjects vary as control
subjects do, and not too lopsidedly: where persons' effects are exponential and larger than the items', a test of one
person at 5 % rejects 9 %. On TOFU, an unrelated LLM that never saw an author brings one author's 95 % half-width from
0.71 to 0.23 nats.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.quantiles import t_quantile, t_tail
from workers.evaluation.variance_components import Floats, by_subject, column, variance_components

REGRESSION_ITEMS = 20
REGRESSION_SUBJECTS = 4


@dataclass(frozen=True, slots=True)
class Reference:
    """The line, and how items scatter about it. Variances in squared units of the score.

    `size_square_sum` is Σ n_j² over the control's subjects. With fewer than 20 items or 4 subjects, without scores of
    an ignorant LLM, or where those are all alike, the slope is 0 and `kind` says so: e is the control's mean, and what
    the slope would have explained stays in the variances.
    """

    kind: Literal["regression", "control mean"]
    intercept: float
    slope: float
    base_mean: float
    base_square_sum: float
    subject_variance: float
    item_variance: float
    items: int
    subjects: int
    size_square_sum: float

    @property
    def degrees(self) -> int:
        return self.subjects - (2 if self.kind == "regression" else 1)

    @property
    def mean_variance(self) -> float:
        """Error of the line at `base_mean`."""
        return self.subject_variance * self.size_square_sum / self.items**2 + self.item_variance / self.items

    def expected(self, base: ArrayLike | None, items: int) -> Floats:
        """e of each of so many items."""
        return self.intercept + self.slope * self._base(base, items)

    def prediction_variance(self, base: ArrayLike | None, items: int) -> Floats:
        """Variance of one never-trained item of a new subject about its e, the error of the line included."""
        one = self.subject_variance + self.item_variance
        return one + self.mean_variance + one * self._slope_weight(self._base(base, items))

    def mean_error(self, base: ArrayLike | None, sizes: Floats) -> tuple[float, float]:
        """(standard error, degrees of freedom) of the mean departure of subjects with so many items each."""
        n = int(sizes.sum())
        slope = float(self._slope_weight(self._base(base, n).mean(keepdims=True))[0])
        of_subjects = float((sizes**2).sum()) / n**2 + self.size_square_sum / self.items**2 + slope
        of_items = 1 / n + 1 / self.items + slope
        variance = of_subjects * self.subject_variance + of_items * self.item_variance
        return math.sqrt(variance), self._degrees(of_subjects, of_items, variance)

    def _degrees(self, of_subjects: float, of_items: float, variance: float) -> float:
        """Satterthwaite's, of a variance that is so much of the subjects' and of the items'."""
        if self.degrees < 1 or variance == 0.0:
            return self.degrees
        between, within = 0.0, of_items * self.item_variance
        if self.subject_variance > 0.0:
            items_each = (self.items - self.size_square_sum / self.items) / (self.subjects - 1)
            between = of_subjects * (self.subject_variance + self.item_variance / items_each)
            within = variance - between
        spare = max(1, self.items - self.subjects - (self.kind == "regression"))
        return min(self.degrees, max(1.0, variance**2 / (between**2 / self.degrees + within**2 / spare)))

    def _slope_weight(self, base: Floats) -> Floats:
        """How much of both variances the slope's error adds there."""
        if self.kind == "control mean":
            return np.zeros_like(base)
        return (base - self.base_mean) ** 2 / self.base_square_sum

    def _base(self, base: ArrayLike | None, items: int) -> Floats:
        if self.kind == "control mean":
            return np.full(items, self.base_mean)
        if base is None:
            raise ValueError("base is missing: this reference needs each item's score under the ignorant LLM")
        return column(base, items, "base")


@dataclass(frozen=True, slots=True)
class MeanDeparture:
    """Mean of d over items with its standard error; t = value / error has `degrees` degrees of freedom."""

    value: float
    error: float
    degrees: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        half = t_quantile((1 + confidence) / 2, self.degrees) * self.error
        return self.value - half, self.value + half

    def chance_above(self, level: float = 0.0) -> float:
        """One-sided p-value of H0: the true mean is at most `level`."""
        if self.error == 0.0:
            return 0.0 if self.value > level else 1.0
        return t_tail((self.value - level) / self.error, self.degrees)


def fit_reference(scores: ArrayLike, base: ArrayLike | None, subjects: ArrayLike) -> Reference:
    """From the control: its scores under the LLM in question, under an ignorant one, and whom each item is about."""
    y, unit, sizes = by_subject(scores, subjects)
    n, k = len(y), len(sizes)
    x = np.zeros(n) if base is None else column(base, n, "base")
    square_sum = float(((x - x.mean()) ** 2).sum())
    sloped = n >= REGRESSION_ITEMS and k >= REGRESSION_SUBJECTS and square_sum > 1e-12 * (1.0 + float((x**2).sum()))
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / square_sum if sloped else 0.0
    intercept = float(y.mean()) - slope * float(x.mean())
    subject_variance, item_variance = variance_components(y - intercept - slope * x, unit, int(sloped))
    return Reference(
        kind="regression" if sloped else "control mean",
        intercept=intercept,
        slope=slope,
        base_mean=float(x.mean()),
        base_square_sum=square_sum,
        subject_variance=subject_variance,
        item_variance=item_variance,
        items=n,
        subjects=k,
        size_square_sum=float((sizes**2).sum()),
    )


def mean_departure(
    reference: Reference, scores: ArrayLike, base: ArrayLike | None, subjects: ArrayLike
) -> MeanDeparture:
    """How far items lie from where never-trained ones would, on average; meant for one subject as for many."""
    y, _, sizes = by_subject(scores, subjects)
    error, degrees = reference.mean_error(base, sizes)
    return MeanDeparture(float((y - reference.expected(base, len(y))).mean()), error, degrees)
