"""Feature maps with torchvision's own tool: ``python -m examples.feature_extraction``.

``create_feature_extractor`` traces a network, so you can ask for any node of its graph.
``net.feature_info`` names the last map of each size.
"""

import torch
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

import darts_noise as dn


def main(genotype: str = "darts_v2") -> dict[str, Tensor]:
    """Return the maps of one random image, by stride, and its logits."""
    net = dn.create_model(genotype, channels=8, num_cells=5, stem="small").eval()
    nodes = {module: f"stride {stride}" for _, stride, module in net.feature_info}
    extractor = create_feature_extractor(net, {**nodes, "classifier": "logits"})
    with torch.no_grad():
        maps: dict[str, Tensor] = extractor(torch.rand(1, 3, 32, 32))
    print({name: tuple(value.shape) for name, value in maps.items()})
    return maps


if __name__ == "__main__":
    main()
