"""Inference in bfloat16: ``python -m examples.bf16``.

Autocast keeps the weights in float32 and computes convolutions in bfloat16. ``net.bfloat16()``
also halves the memory of the weights.
"""

import torch

import darts_noise as dn


def main(genotype: str = "darts_v2") -> tuple[float, float]:
    """Return the largest differences of autocast and bfloat16 from the probabilities of float32."""
    torch.manual_seed(0)
    net = dn.create_model(genotype, channels=8, num_cells=3, stem="small").eval()
    images = torch.rand(8, 3, 32, 32)
    with torch.inference_mode():
        exact = net(images).softmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            cast = net(images).softmax(1)
        halved = net.bfloat16()(images.bfloat16()).float().softmax(1)
    differences = float((cast - exact).abs().max()), float((halved - exact).abs().max())
    print("autocast {:.1e}, bfloat16 {:.1e}".format(*differences))
    return differences


if __name__ == "__main__":
    main()
