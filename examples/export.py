"""``torch.export`` and ONNX for any batch size: ``python -m examples.export``.

Needs ``pip install -e '.[onnx]'``.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import darts_noise as dn

BATCH = ({0: Dim("batch")},)
"""The first dimension of the only input may vary."""


def exported(net: nn.Module, image: Tensor) -> ExportedProgram:
    """Export the graph of a network in eval mode.

    Args:
        net: the network.
        image: (C, H, W); the graph takes images of this size only.
    """
    # A batch size of 1 would become a constant.
    return torch.export.export(net.eval(), (image.expand(2, *image.shape),), dynamic_shapes=BATCH)


def to_onnx(net: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network as ONNX, with the input ``images`` and the output ``logits``."""
    program = torch.onnx.export(
        exported(net, image), input_names=["images"], output_names=["logits"], verbose=False
    )
    assert program is not None
    program.save(path)


def main(genotype: str = "darts_v2") -> float:
    """Return the largest difference between the logits of PyTorch and of ONNX Runtime."""
    import onnxruntime

    torch.manual_seed(0)
    net = dn.create_model(genotype, channels=4, num_cells=3, stem="small").eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cell.onnx"
        to_onnx(net, torch.rand(3, 32, 32), path)
        session = onnxruntime.InferenceSession(path)
    difference = 0.0
    for count in (1, 5, 64):
        images = torch.rand(count, 3, 32, 32)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            difference = max(
                difference, float((net(images) - torch.from_numpy(logits)).abs().max())
            )
    print(f"largest difference: {difference:.1e}")
    return difference


if __name__ == "__main__":
    main()
