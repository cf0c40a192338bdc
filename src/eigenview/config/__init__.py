"""Every option of a run: frozen keyword-only dataclasses, free of torch so that help is quick.

run.py       RunConfig
sections.py  its nested parts: network, optimiser, loader, monitor, probes
augment.py   its section of changes to the preset of augmentation
dicts.py     to and from dictionaries
names.py     options that were renamed or removed
types.py     checks values against annotations
"""

from eigenview.config.augment import AugmentConfig
from eigenview.config.dicts import changed_fields, from_dict, method_name, to_dict, with_fields
from eigenview.config.run import RunConfig
from eigenview.config.sections import LoaderConfig, MonitorConfig, NetworkConfig, OptimConfig, ProbeConfig

__all__ = [
    "AugmentConfig",
    "LoaderConfig",
    "MonitorConfig",
    "NetworkConfig",
    "OptimConfig",
    "ProbeConfig",
    "RunConfig",
    "changed_fields",
    "from_dict",
    "method_name",
    "to_dict",
    "with_fields",
]
