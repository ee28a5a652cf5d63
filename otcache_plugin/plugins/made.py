"""What is asked of a policy that was made of a document: that it is what the document says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otcache_policies import DecidingPolicy, Policy
    from otcache_registry import DocumentError, PolicyDocument


def check_served(document: PolicyDocument, policy: Policy | DecidingPolicy[Any]) -> None:
    """Raise DocumentError unless a document serves the budgets that its policy does.

    It says which these are to those who cannot make its policy.
    """
    from otcache_policies import AimingPolicy, DecidingPolicy

    if isinstance(policy, DecidingPolicy) and not isinstance(policy, AimingPolicy):
        return
    stated = document.budgets
    if stated is None:
        problem = "missing, and its policy serves budgets"
        remedy = f"State {policy.budgets}, and the default"
        raise document_error("budgets", None, problem, remedy)
    for field in ("smallest", "largest"):
        value, served = getattr(stated, field), getattr(policy.budgets, field)
        if value != served:
            problem = "not what the policy of its parameters serves"
            raise document_error(f"budgets.{field}", value, problem, f"Use {served}")


def document_error(field: str, value: object, problem: str, remedy: str) -> DocumentError:
    """Return an error of a document; importing its class waits until there is one."""
    from otcache_registry import DocumentError

    return DocumentError(field, value, problem, remedy)
