"""A recurrent controller that draws cells, trained by REINFORCE (Zoph & Le 2017, arXiv:1611.01578).

The controller is an LSTM. At each decision, a softmax over the options gives their probabilities,
one option is drawn, and its embedding is the input of the next step. θ are its weights. The policy
gradient (section 3.2 of the paper) with a baseline b and a weight β of the entropy is

    ∇ J(θ) = E[(R − b) · ∇ log π(cell; θ)] + β · ∇ H(θ)
"""

import math
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.search.candidate import Candidate
from darts_noise.search.strategies.cells import questions
from darts_noise.search.strategies.strategy import Proposal, Strategy, register_strategy
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space

INITIAL_RANGE = 0.08
"""The initial weights of the controller are uniform in ±0.08, as in the paper."""


Decision = tuple[Sequence[int], int]
"""The options that were left, and the option that was taken. Options of all kinds count through, in
the order of `Controller.options`."""


class Draw(NamedTuple):
    """A cell that a controller has drawn.

    Attributes:
        genotype: the cell.
        log_probability: log π(cell; θ), with its graph.
        entropy: sum of the entropies of the decisions, with its graph.
        decisions: the decisions, in their order.
    """

    genotype: Genotype
    log_probability: Tensor
    entropy: Tensor
    decisions: Sequence[Decision]


class Controller(nn.Module):
    """A distribution over the cells of a space.

    Args:
        space: the search space.
        hidden: size of the hidden states and of the embeddings.
        layers: number of LSTM layers.
    """

    def __init__(self, space: Space, hidden: int, layers: int) -> None:
        super().__init__()
        self.space = space
        self.options: dict[str, Sequence[Any]] = {
            "predecessor": range(space.nodes + 1),
            "operation": space.operations,
            **dict(space.macro),
        }
        counts = accumulate(map(len, self.options.values()), initial=0)
        self.first = dict(zip(self.options, counts, strict=False))
        self.start = nn.Parameter(torch.zeros(hidden))
        self.lstm = nn.LSTM(hidden, hidden, layers)
        self.heads = nn.ModuleDict(
            {kind: nn.Linear(hidden, len(options)) for kind, options in self.options.items()}
        )
        self.embeddings = nn.ModuleDict(
            {kind: nn.Embedding(len(options), hidden) for kind, options in self.options.items()}
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INITIAL_RANGE, INITIAL_RANGE)

    def forward(self, places: Iterator[int] | None = None) -> Draw:
        """Draw a cell from torch's global generator.

        A decision with one possible answer is no decision. Predecessors of a node are drawn one
        after the other, without replacement.

        Args:
            places: the decisions to take instead of drawing them: the place of each among the
                options that are left.
        """
        state: tuple[Tensor, Tensor] | None = None
        token: Tensor = self.start
        decisions: list[Decision] = []
        log_probability, entropy = 0 * self.start.sum(), torch.zeros(())
        series, taken = self._decisions(), None
        while True:
            try:
                kind, left = series.send(taken)
            except StopIteration as end:
                return Draw(end.value, log_probability, entropy, decisions)
            output, state = self.lstm(token[None], state)  # (1, hidden)
            first = self.first[kind]
            rows = [option - first for option in left]
            logs = self.heads[kind](output[0])[rows].log_softmax(0)
            share = logs.exp()
            drawn = torch.multinomial(share.detach(), 1) if places is None else next(places)
            place = int(drawn)
            log_probability = log_probability + logs[place]
            entropy = entropy - (share * logs).sum()
            token = self.embeddings[kind](torch.tensor(rows[place]))
            taken = left[place]
            decisions.append((left, taken))

    def _decisions(self) -> Generator[tuple[str, list[int]], int | None, Genotype]:
        """Yield the kind and the options of each decision, expect the one taken; return the cell.

        Options are numbers as in `Decision`.
        """
        series, answer = questions(self.space), None
        while True:
            try:
                kind, options, count = series.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            left, answer = list(options), []
            if count == len(left):
                answer = left
                continue
            for _ in range(count):
                numbers = [self.first[kind] + self.options[kind].index(option) for option in left]
                taken = yield kind, numbers
                answer.append(left.pop(numbers.index(taken)))  # type: ignore[arg-type]

    @torch.no_grad()
    def sample(self, count: int) -> tuple[list[Genotype], Tensor]:
        """Draw cells from torch's global generator, all at once.

        Returns:
            The cells, and the hidden state of the last layer after it has read all decisions of a
            cell, (count, hidden).
        """
        weight, bias = _joined(self.heads, "weight"), _joined(self.heads, "bias")
        embeddings = _joined(self.embeddings, "weight")
        series = [self._decisions() for _ in range(count)]
        taken: list[int | None] = [None] * count
        cells: dict[int, Genotype] = {}
        states, tokens = torch.empty(count, len(self.start)), self.start.repeat(1, count, 1)
        state, open_ = None, list(range(count))
        while open_:
            output, state = self.lstm(tokens, state)  # (1, count, hidden)
            states[open_] = output[0, open_]
            places: list[tuple[int, int]] = []
            for cell in open_:
                try:
                    places += [(cell, option) for option in series[cell].send(taken[cell])[1]]
                except StopIteration as end:
                    cells[cell] = end.value
            open_ = [cell for cell in open_ if cell not in cells]
            if open_:
                left = torch.zeros(count, len(bias), dtype=torch.bool)
                left[tuple(torch.tensor(places).T)] = True
                logits = F.linear(states[open_], weight, bias).masked_fill(~left[open_], -torch.inf)
                drawn = torch.multinomial(logits.softmax(-1), 1)[:, 0]
                tokens[0, open_] = embeddings[drawn]
                for cell, option in zip(open_, drawn.tolist(), strict=True):
                    taken[cell] = option
        return [cells[cell] for cell in range(count)], states

    def log_probabilities(self, cells: Sequence[Sequence[Decision]]) -> Tensor:
        """Return log π of cells, (cells,), in one pass over all of them.

        Args:
            cells: the decisions of each cell; see `Draw`.
        """
        steps, options = max(1, *map(len, cells)), sum(map(len, self.options.values()))
        left = torch.zeros(steps, len(cells), options, dtype=torch.bool)
        taken = torch.zeros(steps, len(cells), dtype=torch.int64)
        for cell, decisions in enumerate(cells):
            for step, (those, this) in enumerate(decisions):
                left[step, cell, those] = True
                taken[step, cell] = this
        left[..., 0] |= ~left.any(-1)  # after the last decision of a cell: one option, log 1 = 0
        weight, bias = _joined(self.heads, "weight"), _joined(self.heads, "bias")
        embeddings = _joined(self.embeddings, "weight")
        start = self.start.expand(1, len(cells), -1)
        outputs, _ = self.lstm(torch.cat([start, embeddings[taken[:-1]]]))  # (steps, cells, hidden)
        logs = F.linear(outputs, weight, bias).masked_fill(~left, -torch.inf).log_softmax(-1)
        return logs.gather(-1, taken[..., None])[..., 0].sum(0)


def _joined(parts: nn.ModuleDict, name: str) -> Tensor:
    return torch.cat([getattr(part, name) for part in parts.values()])


def reward(candidate: Candidate, power: int = 3) -> float:
    """Return R = (A · exp(−λ · P))³, where A is the largest validation accuracy of the last epochs.

    Without a penalty it is the reward of the paper, the cube of A. A penalty counts as it does in
    F = L_val + λ · P, where exp(−F) is the mean probability of the right class times exp(−λ · P).
    A cell without an objective, because every training on noise diverged, gets 0. ``power`` is 3 in
    the paper.
    """
    if candidate.objective is None:
        return 0.0
    penalty = candidate.objective - candidate.validation.loss
    accuracy = candidate.validation.accuracy if candidate.peak is None else candidate.peak
    return float((accuracy * math.exp(-penalty)) ** power)


@register_strategy("nas")
class Nas(Strategy):
    """A controller that learns which cells have a large `reward`.

    Args:
        learning_rate: learning rate of Adam for the controller.
        entropy: β, the weight of the entropy.
        baseline: share of the old baseline when a new reward is averaged in. The baseline is the
            exponential moving average of the rewards before this one.
        batch: number of cells for each step of the controller.
        hidden: size of the controller's hidden states.
        layers: number of its LSTM layers.
    """

    peak_epochs = 5
    controller: Controller

    def __init__(
        self,
        learning_rate: float = 0.01,
        entropy: float = 1e-4,
        baseline: float = 0.8,
        batch: int = 1,
        hidden: int = 35,
        layers: int = 2,
    ) -> None:
        require_at_least(0, learning_rate=learning_rate, entropy=entropy)
        if not 0 <= baseline < 1:
            raise SettingError("baseline", f"expected 0 or more and less than 1, got {baseline}")
        require_at_least(1, batch=batch, hidden=hidden, layers=layers)
        self.learning_rate, self.entropy, self.decay = learning_rate, entropy, baseline
        self.batch, self.hidden, self.layers = batch, hidden, layers

    def start(self, space: Space) -> None:
        super().start(space)
        self.controller = Controller(space, self.hidden, self.layers)
        self.optimiser = torch.optim.Adam(self.controller.parameters(), self.learning_rate)
        self.baseline: float | None = None
        self.told = 0

    def ask(self) -> Proposal:
        self.draw = self.controller()
        return Proposal(self.draw.genotype)

    def tell(self, candidate: Candidate) -> None:
        self.learn(self.draw, reward(candidate))

    def learn(self, draw: Draw, found: float) -> None:
        """Add the policy gradient of a drawn cell with a reward. Make a step after each batch."""
        before = found if self.baseline is None else self.baseline
        gain = (found - before) * draw.log_probability + self.entropy * draw.entropy
        (-gain / self.batch).backward()  # type: ignore[no-untyped-call]
        self.baseline = self.decay * before + (1 - self.decay) * found
        self.told += 1
        if self.told % self.batch == 0:
            self.optimiser.step()
            self.optimiser.zero_grad()
