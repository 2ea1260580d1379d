"""Ascent on the forget rows, KL to the LLM as it was on the retain rows (Yao et al., ACL 2024, arXiv:2402.15159).

    L = L_ascent(forget) + λ·Σ_n w_n·KL(p_teacher ‖ p_student)_n / Σ_n w_n over the labelled tokens of the retain rows

Their code minimises the cross-entropy over every position, padding too, through log(softmax + 1e-12); here it is
the divergence, over labelled tokens, from logarithms. On in-distribution or general rows: see ascent_descent.py.
"""

from workers.methods.gradient_ascent import Ascent
from workers.methods.interface import Method
from workers.methods.retain_term import RetainTerm
from workers.methods.two_terms import TwoTerms


def make_ascent_kl(*, ceiling: float | None = 2.0, retain_weight: float = 1.0) -> Method:
    return TwoTerms(Ascent(ceiling), RetainTerm("kl", retain_weight))
