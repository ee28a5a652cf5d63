"""Parameters of the policy of learned scores: what its network was trained for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from otcache_policies import ReCachePolicy, ScoreNetwork, ScoresError
from otcache_registry import DocumentError, Part, PolicyDetails
from otcache_registry.documents.values import Budget

from otcache_plugin.parameters.checks import require_tensors, said_of_the_document

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_registry import PolicyDocument, Sampling, Tables

_NETWORK = ("hidden_weights", "hidden_bias", "output_weights", "output_bias")
_DTYPES = {**dict.fromkeys(_NETWORK, np.dtype(np.float32)), "look_backs": np.dtype(np.uint8)}


class ReCacheParameters(Part):
    """What a document of the policy "recache" holds besides its network and look-backs.

    Attributes:
        smallest_budget: Smallest budget that the network was trained for.
        largest_budget: Largest one.
    """

    smallest_budget: Budget
    largest_budget: Budget

    @classmethod
    def of(cls, network: ScoreNetwork) -> Self:
        """Return the parameters of a network."""
        return cls(smallest_budget=network.smallest, largest_budget=network.largest)


def tables_of(policy: ReCachePolicy) -> Tables:
    """Return a policy's arrays by name."""
    tables: dict[str, NDArray[Any]] = {
        name: getattr(policy.network, name).astype(np.float32) for name in _NETWORK
    }
    return {**tables, "look_backs": policy.look_backs.astype(np.uint8)}


def make(parameters: ReCacheParameters, tables: Tables, sampling: Sampling) -> ReCachePolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: The tables are no network that scores steps, or one for runs of another
            number of them.
    """
    require_tensors(
        tables,
        (_DTYPES,),
        "not the tensors of a network that scores steps",
        f"It holds {', '.join(_NETWORK)} as float32 and look_backs as uint8, nothing else",
    )
    total, outputs = sampling.num_inference_steps, tables["output_bias"].shape
    if outputs != (total - 2,):
        problem = f"not of the document's {total} steps"
        raise DocumentError("tables.output_bias", outputs, problem, f"Use {total - 2} outputs")
    if not parameters.smallest_budget < parameters.largest_budget < total:
        problem = f"not above the smallest budget {parameters.smallest_budget} and below {total}"
        remedy = "Use the budgets that the network was trained for"
        raise DocumentError("parameters.largest_budget", parameters.largest_budget, problem, remedy)
    with said_of_the_document(ScoresError, "tables"):
        network = ScoreNetwork(
            parameters.smallest_budget,
            parameters.largest_budget,
            *(tables[name] for name in _NETWORK),
        )
        return ReCachePolicy(network, tables["look_backs"])


def describe(parameters: ReCacheParameters, document: PolicyDocument) -> PolicyDetails:
    """Return what the network was trained for."""
    budgets = f"{parameters.smallest_budget} to {parameters.largest_budget}"
    return PolicyDetails(
        notes=(
            f"One network scores the steps at every budget from {budgets}; "
            "those that score highest are computed.",
        ),
    )
