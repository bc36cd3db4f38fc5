"""Worlds: label, score, fork and compare recorded sessions. Names of its own; `odograph.Trajectory` is another class."""

from .components import Component, Label, Trajectory, Turn
from .discovering import Discovery, discover
from .events import (
    OnComponentAdded,
    OnComponentRemoved,
    OnDespawn,
    OnDestroy,
    OnSpawn,
    PostTick,
    PreTick,
    Resources,
)
from .labelling import LabelingProcessor
from .people import Queue, chosen, from_csv, to_csv
from .places import StorageConfig
from .processors import AsyncProcessor, SamplingConfig, SamplingProcessor, ScoringProcessor
from .rubrics import Rubric
from .runtime import SyncWorld, SyncWorldRuntime, WorldRuntime
from .scanning import Scan, scan
from .sessions import WrittenBack, session_of
from .settings import LabelingConfig
from .storage import Fenced, WorldError
from .world import RunConfig, World, WorldInfo

#: The names of the original, which the page of trajectory analysis uses.
ArchetypeRuntime = WorldRuntime
SyncArchetypeRuntime = SyncWorldRuntime

__all__ = [
    "ArchetypeRuntime",
    "AsyncProcessor",
    "Component",
    "Discovery",
    "Fenced",
    "Label",
    "LabelingConfig",
    "LabelingProcessor",
    "OnComponentAdded",
    "OnComponentRemoved",
    "OnDespawn",
    "OnDestroy",
    "OnSpawn",
    "PostTick",
    "PreTick",
    "Queue",
    "Resources",
    "Rubric",
    "RunConfig",
    "SamplingConfig",
    "SamplingProcessor",
    "Scan",
    "ScoringProcessor",
    "StorageConfig",
    "SyncArchetypeRuntime",
    "SyncWorld",
    "SyncWorldRuntime",
    "Trajectory",
    "Turn",
    "World",
    "WorldError",
    "WorldInfo",
    "WorldRuntime",
    "WrittenBack",
    "chosen",
    "discover",
    "from_csv",
    "scan",
    "session_of",
    "to_csv",
]
