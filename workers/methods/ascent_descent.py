"""Ascent on the forget rows, descent on the retain rows (Yao et al., ACL 2024, arXiv:2402.15159; GradDiff in
Maini et al., COLM 2024, arXiv:2401.06121).

    L = L_ascent(forget) + λ·Σ_n w_n·(-log p(label_n)) / Σ_n w_n over the labelled tokens of the retain rows

Yao et al. run it on in-distribution rows and on general ones: the same equation under two names, which differ
in the dataset the loop brings. Their alternating batches halve both terms; AdamW does not notice.
"""

from workers.methods.gradient_ascent import Ascent
from workers.methods.interface import Method
from workers.methods.retain_term import RetainTerm
from workers.methods.two_terms import TwoTerms


def make_ascent_descent(*, ceiling: float | None = 2.0, retain_weight: float = 1.0) -> Method:
    return TwoTerms(Ascent(ceiling), RetainTerm("nll", retain_weight))
