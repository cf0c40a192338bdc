"""Options that were renamed or removed, for command lines and files of earlier versions. One map for both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eigenview.errors import UserError, require

RENAMED = {
    "size": "image_size",
    "micro_batch": "grad_cache_chunk",
    "accumulate": "grad_accum_steps",
    "accumulate_coupled": "grad_accum_coupled",
}
"""Fields of RunConfig until November 2026 -> today's."""
REMOVED: dict[str, Any] = {
    "eps_inside": False,
    "normalise_by": "spectral",
    "centre": False,
    "initial": "batch",
    "order": "after",
    "form": "straight-through",
    "reduction": "mean",
    "convention": "code",
    "positives": "outside",
}
"""Options of methods that are arguments of functions now -> their former defaults, which need no option."""
REMOVED_FROM_ISOLOSS = {"eps_inside": True}
"""Its former default where it differed."""
FLAGS = {
    "--size": "--image-size",
    "--micro-batch": "--grad-cache-chunk",
    "--accumulate": "--grad-accum-steps",
    "--accumulate-coupled": "--grad-accum-coupled",
    "--network.branches": "--network.no-shared-weights (in place of --network.branches separate)",
}
"""Options of the command line until November 2026 -> today's."""


def renamed(where: str, name: str) -> str:
    """A sentence naming today's option for a field of an earlier version; empty if there is none."""
    if where == "" and name == "objective":
        return "It is named method now: the method's config, such as method=ev.VICRegConfig(covariance=4)."
    if where == "" and name in RENAMED:
        return f"It is named {RENAMED[name]} now."
    if where == "network." and name == "branches":
        return "It is network.shared_weights=False now."
    return ""


def refuse_old_flags(args: list[str]) -> None:
    """Raises UserError for an option of an earlier version, with today's name."""
    for arg in args:
        flag = arg.partition("=")[0]
        if flag.startswith("--objective."):
            name = flag.removeprefix("--objective.").removeprefix("no-").replace("-", "_")
            if name in REMOVED and name != "form":  # unbiased-vicreg has an option of that name
                raise UserError(f"{flag}: it is no option of a run any more; it only reproduced another program.")
            raise UserError(f"{flag}: it is named {flag.replace('--objective.', '--method.')} now.")
        if flag in FLAGS:
            raise UserError(f"{flag}: it is named {FLAGS[flag]} now.")


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config.json in today's form; those of today are returned as they are.

    Raises: UserError for a removed option with another value than its default.
    """
    found = dict(values)
    if isinstance(found.get("method"), str):
        options = dict(found.pop("objective", {}))
        if options.get("eps") == 0 == options.get("floor"):  # W_p is the same power of F either way
            options.pop("eps_inside", None)
        defaults = REMOVED | (REMOVED_FROM_ISOLOSS if found["method"] == "isoloss" else {})
        for name, default in defaults.items():
            if name in options and _is_removed(found["method"], name):
                value = options.pop(name)
                require(value == default, f"objective.{name}", value, f"{default}: it is no option of a run any more")
        found["method"] = {"name": found["method"], **options}
    for old, new in RENAMED.items():
        if old in found:
            found[new] = found.pop(old)
    network = found.get("network")
    if isinstance(network, Mapping) and "branches" in network:
        found["network"] = {k: v for k, v in network.items() if k != "branches"}
        found["network"]["shared_weights"] = network["branches"] == "shared"
    return found


def _is_removed(method: str, option: str) -> bool:
    return option != "form" or method == "isoloss"  # unbiased-vicreg has an option of that name
