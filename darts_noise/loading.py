"""Load modules from untrusted checkpoints as data, without running code from them."""

from dataclasses import fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import pytorch_lightning as pl
import torch

from darts_noise.configured import fields_of
from darts_noise.shown import shown

C = TypeVar("C")

KEYS = ("state_dict", "pytorch-lightning_version")
"""Keys that every checkpoint of Lightning has."""


class PlainModule(pl.LightningModule, Generic[C]):
    """A module with a config that is loaded only from tensors and plain values.

    Lightning also accepts in a checkpoint the name of a function (``_instantiator``) or a class
    (``_class_path``) that makes the module. Checkpoints of this package never contain them, and
    this class refuses them.

    Attributes:
        config: the settings. A checkpoint contains its fields.
    """

    config_class: ClassVar[type]
    config: C

    def configure(self, config: C) -> None:
        """Set the config, also for later checkpoints."""
        self.config = config
        # A run gives its loggers all of its settings; the module's alone would come a second time.
        self.save_hyperparameters(fields_of(config), logger=False)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, **settings: Any) -> Self:  # type: ignore[override]
        """Load a module and its weights from a checkpoint.

        Args:
            checkpoint_path: the file.
            settings: other arguments of Lightning's method. ``weights_only`` is always true, and
                ``map_location`` is the CPU by default, whatever device the run was on.

        Raises:
            ValueError: the file is not a checkpoint of Lightning, it contains objects other than
                tensors and plain values, or it has settings that the module does not have. The
                message names the file.
        """
        stated = _settings(checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY)
        allowed = [field.name for field in fields(cls.config_class)]
        for key in stated:
            if key not in allowed:
                raise ValueError(
                    f"{checkpoint_path}: expected only settings of {cls.__name__} in its "
                    f"hyperparameters, got {shown(key)}"
                )
        settings = {"map_location": "cpu", **settings, "weights_only": True}
        return super().load_from_checkpoint(checkpoint_path, **settings)


def _settings(path: Any, key: str) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        missing = [name for name in KEYS if name not in checkpoint]
        settings = dict(checkpoint.get(key, {}))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or shown(error)}") from None
    except Exception:
        # A damaged archive, a pickle that calls a function and an object that is not a dictionary
        # each raise a different error.
        raise ValueError(
            f"{path}: expected a checkpoint of tensors and plain values; none of it was run"
        ) from None
    if missing:
        raise ValueError(
            f"{path}: expected a checkpoint of Lightning, got one without {missing[0]!r}; for the "
            "weights of a network alone, use dn.create_model(...).load_state_dict(torch.load(path))"
        )
    return settings
