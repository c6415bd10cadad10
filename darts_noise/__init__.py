"""Differentiable architecture search for cells that learn the data and cannot learn noise.

>>> import darts_noise as dn
>>> net = dn.create_model("darts_v2", num_classes=10, channels=4, num_cells=3)
>>> dn.load_genotype("darts_v2").normal[0]
(('sep_conv_3x3', 0), ('sep_conv_3x3', 1))

A name is imported when it is first used. Importing torch and Lightning takes seconds; ``--help``
should not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

MODULES = {
    "Architecture": "search.architecture",
    "AttackConfig": "attacks.settings",
    "AttackResult": "examine.attacks",
    "BundleConfig": "pretrained.config",
    "BundleImages": "pretrained.config",
    "Candidate": "search.candidate",
    "Cell": "nets.cell",
    "CellTable": "search.table",
    "Certificate": "examine.certificates",
    "DataConfig": "data.settings",
    "Ensemble": "examine.ensembles",
    "EnsembleResult": "examine.ensembles",
    "ExamineConfig": "examine.settings",
    "FeatureNetwork": "nets.body",
    "Examination": "runs.examine",
    "Genotype": "space.genotype",
    "ImageDataModule": "data.module",
    "ImageDataset": "data.images",
    "InnerStep": "search.hypergradients",
    "Interrupted": "runs.run",
    "LabelledImages": "data.images",
    "Learnt": "search.learnt",
    "Network": "nets.network",
    "NoiseConfig": "train.settings",
    "NoiseFit": "train.noise_record",
    "NoiseFitMetric": "metrics",
    "NoiseGrid": "train.settings",
    "NoiseRun": "train.noise_record",
    "Objective": "search.objectives.objective",
    "ObjectiveInputs": "search.objectives.objective",
    "Penalty": "noise.penalties.penalty",
    "Prediction": "pretrained.predict",
    "Proposal": "search.strategies.strategy",
    "RunConfig": "runs.settings",
    "SampleSelection": "train.noisy_labels",
    "SearchConfig": "search.settings",
    "SearchModule": "search.module",
    "SearchResult": "runs.search",
    "SettingError": "errors",
    "Section": "examine.section",
    "Simulation": "search.simulation",
    "Space": "space.spaces",
    "Strategy": "search.strategies.strategy",
    "StudyConfig": "study.settings",
    "StudyResult": "study.results",
    "SuperNet": "nets.supernet",
    "SynchronisedNorms": "nets.synchronised",
    "TrainConfig": "train.settings",
    "TrainedEnsemble": "runs.ensembles",
    "TrainModule": "train.module",
    "TrainResult": "runs.train",
    "TrainerConfig": "runs.settings",
    "Variant": "search.variants.variant",
    "attack": "runs.robustness",
    "certify": "runs.robustness",
    "create_model": "nets.network",
    "evaluate_ensemble": "runs.ensembles",
    "examine": "runs.examine",
    "hypergradient": "search.hypergradients",
    "learnt": "search.learnt",
    "list_datasets": "data.datasets",
    "list_genotypes": "space.published",
    "list_noise": "noise.families",
    "list_noisy_labels": "train.noisy_labels",
    "list_objectives": "search.objectives.objective",
    "list_operations": "space.operations",
    "list_penalties": "noise.penalties.penalty",
    "list_pretrained": "pretrained.shipped",
    "list_spaces": "space.spaces",
    "list_strategies": "search.strategies.strategy",
    "list_variants": "search.variants.variant",
    "list_sections": "examine.sections",
    "load_dataset": "data.datasets",
    "load_genotype": "space.published",
    "load_pretrained": "pretrained.bundle",
    "make_noise": "noise.families",
    "noise_fit": "train.noise_fit",
    "noise_fit_penalty": "noise.penalties.penalty",
    "objective": "search.hypergradients",
    "predict": "pretrained.predict",
    "pretrained_config": "pretrained.bundle",
    "register_dataset": "data.datasets",
    "register_noise": "noise.families",
    "register_noisy_labels": "train.noisy_labels",
    "register_objective": "search.objectives.objective",
    "register_operation": "space.operations",
    "register_penalty": "noise.penalties.penalty",
    "register_section": "examine.sections",
    "register_space": "space.spaces",
    "register_strategy": "search.strategies.strategy",
    "register_variant": "search.variants.variant",
    "save_pretrained": "pretrained.bundle",
    "search": "runs.search",
    "simulate": "search.simulation",
    "study": "study.run",
    "train": "runs.train",
    "train_ensemble": "runs.ensembles",
}
"""Public name → module of this package that defines it."""

__all__ = list(MODULES)

if TYPE_CHECKING:  # a type checker cannot read the table; a test compares the two
    __version__: str
    from darts_noise.attacks.settings import AttackConfig as AttackConfig
    from darts_noise.data.datasets import list_datasets as list_datasets
    from darts_noise.data.datasets import load_dataset as load_dataset
    from darts_noise.data.datasets import register_dataset as register_dataset
    from darts_noise.data.images import ImageDataset as ImageDataset
    from darts_noise.data.images import LabelledImages as LabelledImages
    from darts_noise.data.module import ImageDataModule as ImageDataModule
    from darts_noise.data.settings import DataConfig as DataConfig
    from darts_noise.errors import SettingError as SettingError
    from darts_noise.examine.attacks import AttackResult as AttackResult
    from darts_noise.examine.certificates import Certificate as Certificate
    from darts_noise.examine.ensembles import Ensemble as Ensemble
    from darts_noise.examine.ensembles import EnsembleResult as EnsembleResult
    from darts_noise.examine.section import Section as Section
    from darts_noise.examine.sections import list_sections as list_sections
    from darts_noise.examine.sections import register_section as register_section
    from darts_noise.examine.settings import ExamineConfig as ExamineConfig
    from darts_noise.metrics import NoiseFitMetric as NoiseFitMetric
    from darts_noise.nets.body import FeatureNetwork as FeatureNetwork
    from darts_noise.nets.cell import Cell as Cell
    from darts_noise.nets.network import Network as Network
    from darts_noise.nets.network import create_model as create_model
    from darts_noise.nets.supernet import SuperNet as SuperNet
    from darts_noise.nets.synchronised import SynchronisedNorms as SynchronisedNorms
    from darts_noise.noise.families import list_noise as list_noise
    from darts_noise.noise.families import make_noise as make_noise
    from darts_noise.noise.families import register_noise as register_noise
    from darts_noise.noise.penalties.penalty import Penalty as Penalty
    from darts_noise.noise.penalties.penalty import list_penalties as list_penalties
    from darts_noise.noise.penalties.penalty import noise_fit_penalty as noise_fit_penalty
    from darts_noise.noise.penalties.penalty import register_penalty as register_penalty
    from darts_noise.pretrained.bundle import load_pretrained as load_pretrained
    from darts_noise.pretrained.bundle import pretrained_config as pretrained_config
    from darts_noise.pretrained.bundle import save_pretrained as save_pretrained
    from darts_noise.pretrained.config import BundleConfig as BundleConfig
    from darts_noise.pretrained.config import BundleImages as BundleImages
    from darts_noise.pretrained.predict import Prediction as Prediction
    from darts_noise.pretrained.predict import predict as predict
    from darts_noise.pretrained.shipped import list_pretrained as list_pretrained
    from darts_noise.runs.ensembles import TrainedEnsemble as TrainedEnsemble
    from darts_noise.runs.ensembles import evaluate_ensemble as evaluate_ensemble
    from darts_noise.runs.ensembles import train_ensemble as train_ensemble
    from darts_noise.runs.examine import Examination as Examination
    from darts_noise.runs.examine import examine as examine
    from darts_noise.runs.robustness import attack as attack
    from darts_noise.runs.robustness import certify as certify
    from darts_noise.runs.run import Interrupted as Interrupted
    from darts_noise.runs.search import SearchResult as SearchResult
    from darts_noise.runs.search import search as search
    from darts_noise.runs.settings import RunConfig as RunConfig
    from darts_noise.runs.settings import TrainerConfig as TrainerConfig
    from darts_noise.runs.train import TrainResult as TrainResult
    from darts_noise.runs.train import train as train
    from darts_noise.search.architecture import Architecture as Architecture
    from darts_noise.search.candidate import Candidate as Candidate
    from darts_noise.search.hypergradients import InnerStep as InnerStep
    from darts_noise.search.hypergradients import hypergradient as hypergradient
    from darts_noise.search.hypergradients import objective as objective
    from darts_noise.search.learnt import Learnt as Learnt
    from darts_noise.search.learnt import learnt as learnt
    from darts_noise.search.module import SearchModule as SearchModule
    from darts_noise.search.objectives.objective import Objective as Objective
    from darts_noise.search.objectives.objective import ObjectiveInputs as ObjectiveInputs
    from darts_noise.search.objectives.objective import list_objectives as list_objectives
    from darts_noise.search.objectives.objective import register_objective as register_objective
    from darts_noise.search.settings import SearchConfig as SearchConfig
    from darts_noise.search.simulation import Simulation as Simulation
    from darts_noise.search.simulation import simulate as simulate
    from darts_noise.search.strategies.strategy import Proposal as Proposal
    from darts_noise.search.strategies.strategy import Strategy as Strategy
    from darts_noise.search.strategies.strategy import list_strategies as list_strategies
    from darts_noise.search.strategies.strategy import register_strategy as register_strategy
    from darts_noise.search.table import CellTable as CellTable
    from darts_noise.search.variants.variant import Variant as Variant
    from darts_noise.search.variants.variant import list_variants as list_variants
    from darts_noise.search.variants.variant import register_variant as register_variant
    from darts_noise.space.genotype import Genotype as Genotype
    from darts_noise.space.operations import list_operations as list_operations
    from darts_noise.space.operations import register_operation as register_operation
    from darts_noise.space.published import list_genotypes as list_genotypes
    from darts_noise.space.published import load_genotype as load_genotype
    from darts_noise.space.spaces import Space as Space
    from darts_noise.space.spaces import list_spaces as list_spaces
    from darts_noise.space.spaces import register_space as register_space
    from darts_noise.study.results import StudyResult as StudyResult
    from darts_noise.study.run import study as study
    from darts_noise.study.settings import StudyConfig as StudyConfig
    from darts_noise.train.module import TrainModule as TrainModule
    from darts_noise.train.noise_fit import noise_fit as noise_fit
    from darts_noise.train.noise_record import NoiseFit as NoiseFit
    from darts_noise.train.noise_record import NoiseRun as NoiseRun
    from darts_noise.train.noisy_labels import SampleSelection as SampleSelection
    from darts_noise.train.noisy_labels import list_noisy_labels as list_noisy_labels
    from darts_noise.train.noisy_labels import register_noisy_labels as register_noisy_labels
    from darts_noise.train.settings import NoiseConfig as NoiseConfig
    from darts_noise.train.settings import NoiseGrid as NoiseGrid
    from darts_noise.train.settings import TrainConfig as TrainConfig
else:
    # The first import of a subpackage sets it as an attribute, which would hide the function with
    # the same name. So import it here and delete the attribute; later imports do not set it again.
    for _folder in ("examine", "search", "study", "train"):
        import_module(f"{__name__}.{_folder}")
        del globals()[_folder]

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("darts_noise")
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES, "__version__"})
