"""An LLM divided among the ranks of a job: each holds a part of every decoder layer, and lends it while that runs.

    weights, gradients, AdamW's state      1/R of each layer on each of R ranks (FSDP2); embeddings, last norm and head
                                           whole on every one
    a batch                                every rank takes each R-th row; gradients are averaged over the ranks

All ranks run the same program on the same rows in the same order: what one rank leaves out, the others wait for. So
whatever is decided by the clock or by a signal is decided by rank 0 and told (`agreed`). With one rank everything here
hands back what it was given.

A sharded tensor is a `DTensor`: `local` is what this rank holds of it, `whole` asks all ranks for theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from workers.errors import Unsuitable
from workers.methods.layers import UnsuitableError, decoder_layers


def ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def shard(llm: Any, device: str) -> Any:
    """Divide the decoder layers of an LLM in the host's memory among the ranks' devices, and put the rest on each.

    Raises Unsuitable for an LLM whose layers are not known.
    """
    if ranks() > 1:
        mesh = _mesh(device)
        try:
            layers = list(decoder_layers(llm))
        except UnsuitableError as error:
            raise Unsuitable(f"{error}, so it cannot be divided: run its jobs with LETHE_WORKER_PROCESSES=1") from error
        for layer in layers:
            # Each layer is a root of its own, and a root would stay gathered after its first pass.
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    return llm.to(device)


def _mesh(device: str) -> DeviceMesh:
    return init_device_mesh(torch.device(device).type, (ranks(),))


def is_sharded(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """What this rank holds, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every rank. All ranks must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, divided as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    divided = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return divided.to_local()


def as_part(tensor: Tensor, like: Tensor) -> Tensor:
    """The sharded tensor of which this is the rank's part, divided as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    mesh, shape, stride = like.device_mesh, like.size(), like.stride()
    return DTensor.from_local(tensor, mesh, like.placements, run_check=False, shape=shape, stride=stride)


def joined(tensor: Tensor, like: Tensor) -> Tensor:
    """The whole of which every rank gives its part, divided as `like` is. All ranks must ask."""
    return whole(as_part(tensor.to(like.device), like))


def full_state(llm: Any) -> dict[str, Tensor]:
    """The whole LLM's weights by name, in the host's memory, on rank 0; nothing on the others. All ranks must ask."""
    found: dict[str, Tensor] = {}
    places: dict[int, Tensor] = {}  # tied weights stay one tensor, or both would be saved
    for name, tensor in llm.state_dict().items():
        value = whole(tensor)
        if rank() == 0:
            found[name] = places.setdefault(local(tensor).data_ptr(), value.cpu())
    return found


def cast(llm: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Parameters alone, each to its own dtype: buffers, such as the frequencies of positions, keep theirs.

    Raises ValueError for a sharded parameter of another dtype: FSDP remembers the one it first ran with.
    """
    for name, one in llm.named_parameters():
        if one.dtype == dtypes[name]:
            continue
        if is_sharded(one):
            raise ValueError("an LLM divided among ranks has its dtype from its first pass on: load it in fp32")
        one.data = one.data.to(dtypes[name])


def most_gathered(llm: Any) -> int:
    """Numbers of the largest layer that is divided."""
    layers = [module for module in llm.modules() if isinstance(module, FSDPModule)]
    return max((sum(one.numel() for one in layer.parameters()) for layer in layers), default=0)


def agreed(flag: bool) -> bool:
    """Rank 0's word, on every rank."""
    return bool(told(int(flag)))


def told(code: int) -> int:
    """Rank 0's number, on every rank."""
    if ranks() == 1:
        return code
    number = torch.tensor([code])
    dist.broadcast(number, src=0)
    return int(number.item())


def added_up(numbers: Sequence[float], device: torch.device | str) -> list[float]:
    """The sum over ranks of each."""
    if ranks() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return [float(one) for one in sums.tolist()]


def own_rows(count: int) -> tuple[list[int], bool]:
    """Which of a batch's rows are this rank's, and whether they count: with fewer rows than ranks some run the first
    row for nothing, since the others wait for them.
    """
    mine = list(range(rank(), count, ranks()))
    return (mine, True) if mine else ([0], False)


def average_whole_gradients(parameters: Iterable[Tensor]) -> None:
    """Those of sharded weights are averaged as they are divided; this does it for the weights every rank has."""
    if ranks() == 1:
        return
    for one in parameters:
        if one.grad is not None and not is_sharded(one):
            dist.all_reduce(one.grad)
            one.grad /= ranks()


def in_kinds(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Sharded and whole ones apart, for operations that take a list of one kind; no empty lists."""
    kinds = [[one for one in parameters if is_sharded(one) is kind] for kind in (True, False)]
    return [kind for kind in kinds if kind]


def clip_gradients(parameters: Sequence[Tensor], longest: float) -> Tensor:
    """As torch.nn.utils.clip_grad_norm_ over all of them; returns the norm before."""
    if ranks() == 1:
        return torch.nn.utils.clip_grad_norm_(parameters, longest)
    kinds = in_kinds([one for one in parameters if one.grad is not None])
    norms = [whole(torch.nn.utils.get_total_norm([one.grad for one in kind if one.grad is not None])) for kind in kinds]
    norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.tensor(0.0)
    for kind in kinds:
        torch.nn.utils.clip_grads_with_norm_(kind, longest, norm)
    return norm


def train_only(llm: Any, wanted: Mapping[str, bool]) -> None:
    """Set which parameters get a gradient. What was gathered of a sharded one keeps a flag of its own."""
    _flag(llm, wanted)
    layers = [module for module in llm.modules() if isinstance(module, FSDPModule)]
    for layer in layers:
        layer.unshard()
    if layers:
        _flag(llm, wanted)
    for layer in layers:
        layer.reshard()


def _flag(llm: Any, wanted: Mapping[str, bool]) -> None:
    for name, one in llm.named_parameters():
        if name in wanted:
            one.requires_grad_(requires_grad=wanted[name])
