"""The search: α, its discretisation and the bilevel optimisation as a LightningModule."""
