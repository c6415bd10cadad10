"""The sections of an examination. Importing this module registers all of them."""

# The order of the page.
# isort: off
from darts_noise.examine import time_to_fit
from darts_noise.examine import capacity
from darts_noise.examine import two_phases
from darts_noise.examine import critical_period
from darts_noise.examine import label_complexity
from darts_noise.examine import frequency
from darts_noise.examine import input_gradients
from darts_noise.examine import influence
from darts_noise.examine import wrong_labels

# isort: on
from darts_noise.examine.section import list_sections, make_sections, register_section

__all__ = [
    "capacity",
    "critical_period",
    "frequency",
    "influence",
    "input_gradients",
    "label_complexity",
    "list_sections",
    "make_sections",
    "register_section",
    "time_to_fit",
    "two_phases",
    "wrong_labels",
]
