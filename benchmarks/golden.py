"""Compare the package with reference values, and print the largest differences.

    python -m benchmarks.golden

The command makes the comparisons of the tests in float64. The reference values in
``tests/golden/darts.json`` come from the code that the authors of DARTS published. The command
writes ``docs/results/golden.json``.
"""

import json
import sys
from typing import Any

import torch
import torch.nn.functional as F

import darts_noise as dn
from benchmarks.commands import ROOT, store, surroundings
from darts_noise.nets.supernet import IMPLEMENTATIONS
from darts_noise.search.hypergradients import InnerStep, hypergradient, objective

sys.path.insert(0, str(ROOT / "tests"))
from conftest import fill, filled, wave


def relative(actual: torch.Tensor | float, expected: Any) -> float:
    """Return the largest difference divided by the largest expected value."""
    a, e = (torch.as_tensor(v, dtype=torch.float64) for v in (actual, expected))
    return ((a - e).abs().max() / e.abs().max()).item()


def network(golden: dict[str, Any], stem: str, name: str, mode: str) -> dict[str, float]:
    expected = golden["network"][f"{stem}/{name.upper()}/C8_L5/{mode}"]
    net = fill(dn.create_model(name, channels=8, num_cells=5, stem=stem, auxiliary=True))
    side = 32 if stem == "cifar" else 224
    with torch.no_grad():
        out = net.train(mode == "train")(wave((2, 3, side, side), 1, 0))
    key = f"{stem} network, {name}, {mode}"
    if mode == "eval":
        return {key: relative(out[:, :4], expected["logits"])}
    return {
        f"{key}, logits": relative(out.logits[:, :4], expected["logits"]),
        f"{key}, auxiliary": relative(out.auxiliary[:, :4], expected["aux"]),
    }


def supernet(golden: dict[str, Any], implementation: str) -> dict[str, float]:
    expected = golden["supernet"]
    net = filled(implementation, channels=4, num_cells=5)
    alphas = {
        "normal": wave((14, 8), 0.5, 300).requires_grad_(),
        "reduce": wave((14, 8), 0.5, 900).requires_grad_(),
    }

    def weights() -> dict[str, torch.Tensor]:
        return {k: a.softmax(-1) for k, a in alphas.items()}

    def loss(shift: int, labels: list[int]) -> Any:
        x = wave((4, 3, 32, 32), 1, shift)
        return objective(
            net, lambda call: F.cross_entropy(call(x, weights()), torch.tensor(labels))
        )

    def gradient(method: str) -> Any:
        return hypergradient(
            loss(1500, [5, 9, 2, 6]),
            loss(0, [3, 1, 4, 1]),
            list(net.parameters()),
            list(alphas.values()),
            method=method,
            step=InnerStep(0.025, 3e-4),
        )

    with torch.no_grad():
        logits = net(wave((4, 3, 32, 32), 1, 0), weights())
    first, exact = gradient("first_order"), gradient("exact")
    one, two = expected["first_order"], expected["second_order_eta0.025"]
    return {
        f"{implementation} supernet, logits": relative(logits[:, :4], expected["logits"]),
        f"{implementation} supernet, first-order loss": relative(first.loss, one["val_loss"]),
        f"{implementation} supernet, first-order α gradient": relative(
            first.gradients[0][0], one["normal_row0"]
        ),
        f"{implementation} supernet, exact loss": relative(exact.loss, two["val_loss_unrolled"]),
        f"{implementation} supernet, exact α gradient": relative(
            exact.gradients[0][0], two["exact_normal_row0"]
        ),
    }


def main() -> None:
    torch.set_num_threads(1)
    golden = json.loads((ROOT / "tests" / "golden" / "darts.json").read_text())
    table: dict[str, float] = {}
    for stem, modes in (("cifar", ("train", "eval")), ("imagenet", ("train",))):
        for name in ("darts_v1", "darts_v2"):
            for mode in modes:
                if f"{stem}/{name.upper()}/C8_L5/{mode}" in golden["network"]:
                    table |= network(golden, stem, name, mode)
    for implementation in IMPLEMENTATIONS:
        table |= supernet(golden, implementation)
    store(
        "golden",
        {
            "command": "python -m benchmarks.golden",
            "what": "largest difference over largest reference value, float64",
            **surroundings(),
            "differences": table,
        },
    )
    for name, value in table.items():
        print(f"{name:44} {value:.1e}")


if __name__ == "__main__":
    main()
