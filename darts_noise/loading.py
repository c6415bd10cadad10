"""Checkpoints from elsewhere are data: reading one runs nothing of what it says."""

from dataclasses import fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import pytorch_lightning as pl
import torch

from darts_noise.configured import fields_of
from darts_noise.space.shown import shown

C = TypeVar("C")


class PlainModule(pl.LightningModule, Generic[C]):
    """A module with a config, that is loaded from tensors, plain values and its config alone.

    Lightning would also take from a checkpoint's settings a function that is to make the module
    (``_instantiator``) and the class to be made (``_class_path``). Ours never have either.

    Attributes:
        config: the settings. A checkpoint holds its fields.
    """

    config_class: ClassVar[type]
    config: C

    def configure(self, config: C) -> None:
        """Makes this the config, also of the checkpoints to come."""
        self.config = config
        self.save_hyperparameters(fields_of(config))

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, **settings: Any) -> Self:  # type: ignore[override]
        """The module that a checkpoint holds, with its weights.

        Args:
            checkpoint_path: the file.
            settings: further arguments of Lightning's method; ``weights_only`` is always true, and
                ``map_location`` the CPU when absent, on whatever device the run was.

        Raises:
            ValueError: a file that is no checkpoint, holds other objects than tensors and plain
                values, or settings that the module does not have; the message names the file.
        """
        stated = _settings(checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY)
        allowed = [field.name for field in fields(cls.config_class)]
        for key in stated:
            if key not in allowed:
                raise ValueError(
                    f"{checkpoint_path}: expected settings of {cls.__name__} among its "
                    f"hyperparameters, got {shown(key)}"
                )
        settings = {"map_location": "cpu", **settings, "weights_only": True}
        return super().load_from_checkpoint(checkpoint_path, **settings)


def _settings(path: Any, key: str) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return dict(checkpoint.get(key, {}))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or shown(error)}") from None
    except Exception:
        # A damaged archive, a pickle that would call a function, an object that is no dictionary:
        # each raises something of its own.
        raise ValueError(
            f"{path}: expected a checkpoint of tensors and plain values; none of it was run"
        ) from None
