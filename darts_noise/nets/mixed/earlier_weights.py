"""Read the weights of a `stacked.Level` from earlier checkpoints, which name them differently.

Earlier checkpoints order the edges as (state, node). They stack all candidates whose stages end in
a 1×1 convolution, and count the stages from the last to the first.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from darts_noise.nets.mixed.stacked import EdgeNorm, Level, StackedOperation
from darts_noise.space.operations.identity import FactorisedReduce

STATISTICS = ("running_mean", "running_var")
PARTS = ("pool_norms.", "shared.", "reduced.", "others.")


def rename_earlier(level: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rename and reorder a level's tensors in place: a hook of ``load_state_dict``.

    Raises:
        KeyError: the names are earlier names, and a tensor is missing.
    """
    assert isinstance(level, Level)
    own = {n.removeprefix(prefix): tensor for n, tensor in state.items() if n.startswith(prefix)}
    if not any(name.startswith(PARTS) or ".lasts." in name for name in own):
        return
    for name in own:
        del state[prefix + name]
    renamed = (*_plain(level, own), *_stacked(level, own), *_rest(level, own))
    state.update({prefix + name: tensor for name, tensor in renamed})


def drop_counts(level: nn.Module, keys: Any) -> None:
    """Drop the counts of batches that torch adds for batch norms without a version.

    It is a hook that runs after ``load_state_dict``: a renamed norm has no version, and the norms
    of a supernet have no counts.
    """
    kept = [key for key in keys.unexpected_keys if not key.endswith(".num_batches_tracked")]
    keys.unexpected_keys[:] = kept


def _plain(level: Level, state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    pools = others = 0
    for k, of_state in enumerate(level.plain):
        kinds = [type(child) for child in of_state[0].children()]
        if kinds in ([nn.MaxPool2d, nn.BatchNorm2d], [nn.AvgPool2d, nn.BatchNorm2d]):
            norm = [name for name, _ in of_state[0].named_children()][1]
            for statistic in STATISTICS:
                values = state[f"pool_norms.{pools}.{statistic}"].chunk(level.num_states)
                for s, value in enumerate(values):
                    yield f"plain.{k}.{s}.{norm}.{statistic}", value
            pools += 1
        else:
            yield from _moved(state, f"shared.{others}.", f"plain.{k}.")
            others += 1


def _stacked(level: Level, state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    stages = [_stages(operation) for operation in level.stacked]
    joint = [k for k, of in enumerate(stages) if all(convs[-1][1] for convs, _ in of)]
    joint.sort(key=lambda k: -len(stages[k]))
    groups = [joint, *([k] for k in range(len(stages)) if k not in joint)]
    for g, group in enumerate(filter(None, groups)):
        own = 0
        for place, k in enumerate(group):
            for d, (convolutions, norm) in enumerate(reversed(stages[k])):
                active = sum(len(stages[other]) > d for other in group)
                *firsts, (last, _) = convolutions
                new = f"stacked.{k}.layers."
                for i, _ in firsts:
                    yield f"{new}{i}.weight", _by_node(level, state[f"stacked.{g}.own.{own}"])
                    own += 1
                together = state[f"stacked.{g}.lasts.{d}"].chunk(active)
                yield f"{new}{last}.weight", _by_node(level, together[place])
                for statistic in STATISTICS:
                    together = state[f"stacked.{g}.norms.{d}.{statistic}"].chunk(active)
                    yield f"{new}{norm}.{statistic}", _by_node(level, together[place])


def _stages(operation: StackedOperation) -> list[tuple[list[tuple[int, bool]], int]]:
    """Return, for each stage, its convolutions (number, whether it is 1×1) and its norm."""
    stages, convolutions = [], []
    for i, layer in enumerate(operation.layers):
        if isinstance(layer, nn.Conv2d):
            whole = layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
            convolutions.append((i, whole))
        elif isinstance(layer, EdgeNorm):
            stages.append((convolutions, i))
            convolutions = []
    return stages


def _rest(level: Level, state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    S, N = level.num_states, level.num_nodes
    reductions = others = 0
    for k, copies in enumerate(level.rest):
        first = copies[0]
        reduces = isinstance(first, FactorisedReduce) and isinstance(first.norm, nn.BatchNorm2d)
        for e in range(S * N):
            n, s = divmod(e, S)
            before, new = s * N + n, f"rest.{k}.{e}."
            if reduces:
                old = f"reduced.{reductions}."
                for half in ("straight", "shifted"):
                    yield f"{new}{half}.weight", state[old + half].chunk(S * N)[before]
                for statistic in STATISTICS:
                    values = state[f"{old}norm.{statistic}"].chunk(S * N)
                    yield f"{new}norm.{statistic}", values[before]
            else:
                yield from _moved(state, f"others.{before}.{others}.", new)
        reductions, others = reductions + reduces, others + (not reduces)


def _moved(state: dict[str, Tensor], old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    yield from ((new + n.removeprefix(old), t) for n, t in state.items() if n.startswith(old))


def _by_node(level: Level, tensor: Tensor) -> Tensor:
    """Reorder the first dimension from (state, node, channel) to (node, state, channel)."""
    by_state = tensor.view(level.num_states, level.num_nodes, -1, *tensor.shape[1:])
    return by_state.transpose(0, 1).reshape(tensor.shape)
