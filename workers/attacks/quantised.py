"""Weights as they are served in 8 or 4 bits: rounding undoes a forgetting that moved no weight out of its bucket.

    int8   code = round(127·w / a), a the largest |w| of the output channel;               w' = a·code / 127
    nf4    code = the nearest of 16 levels to w / a, a the largest |w| of a block of 64;   w' = a·level

The levels are quantiles of the normal distribution (Dettmers et al., NeurIPS 2023, arXiv:2305.14314, §3), worked out
from their formula. Rounded are the matrices that such libraries round by default: of all linear layers, but neither the
head nor the embeddings. Activations stay as they are.

Most of a mixture's weights are its experts, of which transformers makes parameters of three dimensions: each expert is
rounded by itself, as the linear layers that it is in most files. Which dimension is the outputs, the module says
(`is_transposed`) or, for Llama 4, its class. Experts kept in another way, as DBRX's, stay as they are.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workers.sharding import local, part, whole

Precision = Literal["int8", "nf4"]
WeightSource = Callable[[str], Tensor | None]
BLOCK_WEIGHTS = 64
INT8_CODES = 127
# The outermost quantile: half-way between those at which 15 and 16 equal shares of the normal distribution are cut.
NF4_OUTERMOST = 1 - (1 / 32 + 1 / 30) / 2
# Classes that keep (inputs, outputs) and do not say so.
TRANSPOSED = frozenset({"Conv1D", "Llama4TextExperts"})


@functools.cache
def nf4_levels() -> tuple[float, ...]:
    """Seven levels below 0, 0 itself, eight above, from -1 to 1; both sides are equally spaced in probability.

    With δ = NF4_OUTERMOST: Φ⁻¹ at 8 (below) and 9 (above) points from δ to ½, the last of which is the common 0,
    divided by Φ⁻¹(δ).
    """
    quantile = NormalDist().inv_cdf
    largest = quantile(NF4_OUTERMOST)

    def side(count: int) -> list[float]:
        step = (NF4_OUTERMOST - 0.5) / count
        return [quantile(NF4_OUTERMOST - at * step) / largest for at in range(count)]

    return (*(-level for level in side(7)), 0.0, *reversed(side(8)))


def int8_rounded(weight_OI: Tensor) -> Tensor:
    """The weights after int8 and back, in their own dtype; a channel of zeros stays zero."""
    wide_OI = weight_OI.float()
    scale_O1 = _nonzero(wide_OI.abs().amax(1, keepdim=True)) / INT8_CODES
    return ((wide_OI / scale_O1).round() * scale_O1).to(weight_OI.dtype)


def nf4_codes(weight_OI: Tensor) -> Tensor:
    """The 4-bit code (0 to 15) of each weight, in the matrix's shape. Half-way between two levels takes the lower."""
    blocks_NB = _blocks(weight_OI)
    codes_NB, _ = _nf4(blocks_NB)
    return codes_NB.flatten()[: weight_OI.numel()].view(weight_OI.shape)


def nf4_rounded(weight_OI: Tensor) -> Tensor:
    """The weights after NF4 and back, in their own dtype. Blocks run along the rows; the last may be short."""
    codes_NB, scale_N1 = _nf4(_blocks(weight_OI))
    levels = torch.tensor(nf4_levels(), device=weight_OI.device)
    rounded_NB = levels[codes_NB.int()] * scale_N1
    return rounded_NB.flatten()[: weight_OI.numel()].view(weight_OI.shape).to(weight_OI.dtype)


def _nf4(blocks_NB: Tensor) -> tuple[Tensor, Tensor]:
    """(codes, uint8; scale of each block)."""
    levels = torch.tensor(nf4_levels(), device=blocks_NB.device)
    scale_N1 = _nonzero(blocks_NB.abs().amax(1, keepdim=True))
    codes_NB = torch.bucketize(blocks_NB / scale_N1, (levels[1:] + levels[:-1]) / 2, out_int32=True)
    return codes_NB.to(torch.uint8), scale_N1


def _blocks(weight_OI: Tensor) -> Tensor:
    flat = weight_OI.float().flatten()
    missing = -flat.numel() % BLOCK_WEIGHTS
    return nn.functional.pad(flat, (0, missing)).view(-1, BLOCK_WEIGHTS)


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0.0, 1.0, scale)


ROUNDINGS: dict[Precision, Callable[[Tensor], Tensor]] = {"int8": int8_rounded, "nf4": nf4_rounded}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A parameter of a linear layer, or of as many as there are experts. GPT-2 keeps its own transposed."""

    parameter: Tensor
    transposed: bool

    def rows(self, stored: Tensor) -> Tensor:
        """A tensor stored like the parameter, as a view with an output channel a row. One of many experts in a file of
        its own is as linear layers are.
        """
        return stored.mT if self.transposed and stored.dim() == self.parameter.dim() else stored


def each(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Of a matrix, or of every expert's, one after the other."""
    return function(rows) if rows.dim() == 2 else torch.stack([function(one_OI) for one_OI in rows])


@contextmanager
def quantised(llm: Any, precision: Precision) -> Iterator[None]:
    """Meanwhile, every matrix of `linear_matrices` holds its rounded values; afterwards the very bits it had.

    The originals wait in the host's memory: a job has held there, or on the device, several times as much while it
    trained, and reading the files again would take their verification with it. On the LLM's own device nothing is held
    but one parameter at a time.
    """
    matrices, originals = linear_matrices(llm), {}
    try:
        with torch.no_grad():
            for name, matrix in matrices.items():
                originals[name] = local(matrix.parameter).to("cpu", copy=True)
                rounded = each(ROUNDINGS[precision], matrix.rows(whole(matrix.parameter)))
                local(matrix.parameter).copy_(part(matrix.rows(rounded), matrix.parameter))
        yield
    finally:
        with torch.no_grad():
            for name, original in originals.items():
                local(matrices[name].parameter).copy_(original)


def linear_matrices(llm: Any) -> dict[str, Matrix]:
    """What is rounded, by parameter name, each once: all linear layers and experts, but no head and no embeddings."""
    seen = {id(module.weight) for module in (llm.get_output_embeddings(), llm.get_input_embeddings()) if module}
    found: dict[str, Matrix] = {}
    for name, module in llm.named_modules():
        transposed = getattr(module, "is_transposed", type(module).__name__ in TRANSPOSED)
        for own, weight in _rounded_of(module).items():
            if id(weight) not in seen:
                seen.add(id(weight))
                found[f"{name}.{own}"] = Matrix(weight.detach(), transposed)
    return found


def _rounded_of(module: nn.Module) -> dict[str, Tensor]:
    """By name, the parameters of the module itself that are rounded."""
    kind = type(module).__name__
    if isinstance(module, nn.Linear) or kind == "Conv1D":
        return {"weight": module.weight}
    own = module.named_parameters(recurse=False) if kind.endswith("Experts") else ()
    return {name: one for name, one in own if one.dim() == 3}


@dataclass(frozen=True, slots=True)
class Moved:
    """Of the `compared` weights of two LLMs `changed` differ, and of these `moved` got another 4-bit code."""

    compared: int
    changed: int
    moved: int

    @property
    def share(self) -> float | None:
        """None where no weight changed. Near 0: rounding undoes the change."""
        return self.moved / self.changed if self.changed else None


def moved_codes(base_weight: WeightSource, candidate: Any) -> Moved:
    """`base_weight` gives the base version's parameter of a name, or None; such matrices are not compared."""
    compared = changed = moved = 0
    for name, matrix in linear_matrices(candidate).items():
        for before, after in _before_and_after(base_weight, candidate, name, matrix):
            differ = before != after
            compared += after.numel()
            changed += int(differ.sum())
            moved += int((differ & (each(nf4_codes, before) != each(nf4_codes, after))).sum())
    return Moved(compared, changed, moved)


def _before_and_after(
    base_weight: WeightSource, candidate: Any, name: str, matrix: Matrix
) -> list[tuple[Tensor, Tensor]]:
    """Rows of one parameter, or of each that it is in the files; none where the base has nothing of its shape."""
    for names in _named_as_in_files(candidate, name, whole(matrix.parameter)):
        found = [(base_weight(one), after) for one, after in names.items()]
        pairs = [
            (matrix.rows(before.to(after.device, after.dtype)), matrix.rows(after))
            for before, after in found
            if before is not None and before.shape == after.shape
        ]
        if pairs:
            return pairs
    return []


def _named_as_in_files(llm: Any, name: str, weight: Tensor) -> Iterator[dict[str, Tensor]]:
    """Files may leave out the first part of the names, which the LLM's class adds, and hold each expert by itself."""
    from transformers.core_model_loading import revert_weight_conversion

    yield {name: weight}
    yield {name.removeprefix(f"{llm.base_model_prefix}."): weight}
    yield revert_weight_conversion(llm, {name: weight})


def weights_of(llm: Any) -> WeightSource:
    """The matrices of an LLM in memory, as they are when they are asked for."""
    names = frozenset(linear_matrices(llm))
    return lambda name: llm.get_parameter(name).detach() if name in names else None


def weights_in(folder: Path) -> WeightSource:
    """The matrices of a version on disk, read one at a time."""
    from safetensors import safe_open

    places: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            places.update(dict.fromkeys(file.keys(), path))

    def read(name: str) -> Tensor | None:
        if name not in places:
            return None
        with safe_open(places[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    return read
