"""Loading plugins: entry point by entry point, a broken one reported and never the end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from otcache_plugin.errors import ArgumentError, PluginError, UnknownNameError
from otcache_plugin.plugins import hookspecs
from otcache_plugin.plugins.made import check_served, document_error
from otcache_plugin.plugins.registries import (
    CalibratedPolicy,
    Entry,
    ExecutorRegistry,
    MetricRegistry,
    PolicyRegistry,
    Registry,
)
from otcache_plugin.runs.mechanism import VELOCITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otcache_policies import AimingPolicy, DecidingPolicy, Policy
    from otcache_registry import (
        PolicyDetails,
        PolicyDocument,
        Sampling,
        StoredPolicy,
        Tables,
    )

    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.plugins.calibrating import Calibrated, Calibrator
    from otcache_plugin.plugins.registries import Executor, RegisteredPolicy

ALLOW_LIST = "OTCACHE_PLUGINS"
OWN_DISTRIBUTION = "otcache-plugin"
UNKNOWN_DISTRIBUTION = "unknown distribution"

BUILTIN = EntryPoint("builtin", "otcache_plugin.builtin", hookspecs.PROJECT)
"""What this package registers itself: an entry point like others', but one that is always there."""


@dataclass(frozen=True)
class LoadedPlugin:
    """One entry point and how loading it went.

    Attributes:
        name: of the entry point.
        distribution: name and version of what installed it.
        policies: names it registered.
        executors: names it registered.
        metrics: names it registered.
        error: why it could not be used, empty when it could.
        skipped: whether the allow-list leaves it out.
    """

    name: str
    distribution: str
    policies: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class PluginHost:
    """Everything that is registered, and by whom."""

    policies: PolicyRegistry
    executors: ExecutorRegistry
    metrics: MetricRegistry
    plugins: tuple[LoadedPlugin, ...]

    def policy(self, name: str) -> RegisteredPolicy:
        """Return the policy that is registered under that name.

        Raises:
            UnknownNameError: there is none; the message lists those there are, and the plugins
                that could not be used.
        """
        return self._registered(self.policies, name)

    def policy_of(
        self, stored: StoredPolicy, name: str | None = None
    ) -> Policy | DecidingPolicy[Any]:
        """Make the policy of a document.

        Args:
            stored: the document and its tables.
            name: the policy to make of it, where that is not the document's own.

        Raises:
            UnknownNameError: the document's policy is not installed; the message says what to
                install.
            DocumentError: the document is not one of this policy, or not valid.
        """
        document = stored.document
        own = self.calibrated_policy(document)
        parameters = own.parameters_of(document)
        if name is None or name == document.policy.name:
            policy = own.make(parameters, stored.tables, document.sampling)
            check_served(document, policy)
            return policy
        entry = self.policy(name)
        if not isinstance(entry, CalibratedPolicy) or document.policy.name not in entry.converts:
            known = ", ".join(self.serving(name)) or "none"
            problem, remedy = f"no document of the policy {name!r}", f"It takes those of: {known}"
            raise document_error("policy.name", document.policy.name, problem, remedy)
        convert = entry.converts[document.policy.name]
        return entry.make(convert(parameters), stored.tables, document.sampling)

    def calibrated_policy(self, document: PolicyDocument) -> CalibratedPolicy:
        """Return what a document's policy was registered as; raises as `policy_of` does."""
        name, distribution = document.policy.name, document.policy.distribution
        try:
            entry = self.policy(name)
        except UnknownNameError as error:
            remedy = "The document does not say what to install for it"
            if distribution is not None:
                remedy = f"Install {distribution}, which has it as the document says"
            raise UnknownNameError("policy", name, error.problem, remedy) from None
        if not isinstance(entry, CalibratedPolicy):
            problem, remedy = "a policy that needs no document", f"Pass policy={name!r}"
            raise document_error("policy.name", name, problem, remedy)
        return entry

    def policy_found(
        self, name: str, calibrated: Calibrated, sampling: Sampling
    ) -> Policy | AimingPolicy[Any]:
        """Make the policy of what its calibrator found.

        Raises:
            DocumentError: what it found is not what the policy takes, or it decides at every step
                and aims at no budgets, so that there is nothing to measure it at.
        """
        from otcache_policies import AimingPolicy, DecidingPolicy

        made = self.policy_made(name, calibrated.parameters, calibrated.tables, sampling)
        if isinstance(made, DecidingPolicy) and not isinstance(made, AimingPolicy):
            problem = "it decides at every step and aims at no budgets, so it cannot be measured"
            raise document_error("policy.name", name, problem, "Make it an AimingPolicy")
        return made

    def policy_made(
        self, name: str, parameters: Mapping[str, Any], tables: Tables, sampling: Sampling
    ) -> Policy | DecidingPolicy[Any]:
        """Make a registered policy of what a document of it would hold.

        Raises:
            DocumentError: that is not what the policy takes.
        """
        entry = self.policy(name)
        assert isinstance(entry, CalibratedPolicy), f"{name} is made of documents"
        return entry.make(entry.read(parameters), tables, sampling)

    def calibrator(self, name: str) -> Calibrator:
        """Return what calibrates a policy.

        Raises:
            UnknownNameError: no such policy is registered.
            ArgumentError: nothing calibrates it.
        """
        entry = self.policy(name)
        if isinstance(entry, CalibratedPolicy) and entry.calibrator is not None:
            return entry.calibrator()
        remedy = f"Use one of {', '.join(filter(self.can_calibrate, self.policies))}"
        raise ArgumentError("policy", name, "nothing calibrates it", remedy)

    def can_calibrate(self, name: str) -> bool:
        """Return whether a registered policy brings a calibrator."""
        entry = self.policy(name)
        return isinstance(entry, CalibratedPolicy) and entry.calibrator is not None

    def serving(self, name: str) -> tuple[str, ...]:
        """Return the policies whose documents serve a policy: its own, then what it converts."""
        entry = self.policy(name)
        if not isinstance(entry, CalibratedPolicy):
            return ()
        return (name, *(each for each in entry.converts if each in self.policies))

    def describe(self, document: PolicyDocument) -> PolicyDetails:
        """Return what a document's policy says of it: nothing where it is not installed.

        Raises:
            DocumentError: what belongs to the policy is not valid.
        """
        from otcache_registry import NO_DETAILS

        if document.policy.name not in self.policies:
            return NO_DETAILS
        entry = self.calibrated_policy(document)
        return entry.describe(entry.parameters_of(document), document)

    def executor(self, name: str) -> Executor:
        """Return the executor that is registered under that name, or raise UnknownNameError."""
        return self._registered(self.executors, name).make()

    def executor_for(self, policy: DecidingPolicy[Any] | None) -> str:
        """Return the executor that suits a policy, by what it observes if it decides.

        Args:
            policy: that decides, None for one that gives schedules.

        Raises:
            ArgumentError: no executor shows what it observes.
        """
        if policy is None:
            return VELOCITY
        shown: dict[str, str] = {}
        # Of several the package's own is taken.
        for name in sorted(self.executors, key=self._is_of_others):
            shown.update(
                {each: name for each in self.executors.get(name).shows if each not in shown}
            )
        if policy.observes not in shown:
            problem = f"no executor shows what policy {policy.name!r} observes"
            remedy = f"Install one that does; shown are {', '.join(map(repr, shown))}"
            raise ArgumentError("observes", policy.observes, problem, remedy)
        return shown[policy.observes]

    def _is_of_others(self, executor: str) -> bool:
        return self.executors.distribution_of(executor) != OWN_DISTRIBUTION

    def require_executor(self, name: str) -> None:
        """Raise UnknownNameError unless an executor of that name is registered; load nothing."""
        self._registered(self.executors, name)

    def require_metric(self, name: str) -> None:
        """Raise UnknownNameError unless a metric is registered under that name; load nothing."""
        self._registered(self.metrics, name)

    def metric(self, name: str) -> Metric:
        """Return the metric that is registered under that name.

        Raises:
            UnknownNameError: there is none, likewise.
            PluginError: what is registered calls itself otherwise.
        """
        metric = self._registered(self.metrics, name).make()
        if metric.name != name:
            raise PluginError(
                f"{self.metrics.distribution_of(name)} registers the metric {name!r}, which calls "
                f"itself {metric.name!r}: documents would name a metric that nobody finds. "
                "Rename one."
            )
        return metric

    def broken(self) -> tuple[LoadedPlugin, ...]:
        """Return the plugins that could not be used."""
        return tuple(plugin for plugin in self.plugins if plugin.error)

    def _registered(self, registry: Registry[Entry], name: str) -> Entry:
        try:
            return registry.get(name)
        except UnknownNameError as error:
            raise self._mention_broken(error) from None

    def _mention_broken(self, error: UnknownNameError) -> UnknownNameError:
        """Return the error with the plugins that failed to load: one may have had the name."""
        broken = "; ".join(f"{each.distribution}: {each.error}" for each in self.broken())
        if not broken:
            return error
        problem = f"{error.problem} (plugins that failed to load: {broken})"
        return UnknownNameError(error.field, error.value, problem, error.remedy)


@cache
def plugin_host() -> PluginHost:
    """Return the process's plugins, loaded at the first call."""
    return load_plugins(entry_points(group=hookspecs.PROJECT), os.environ.get(ALLOW_LIST))


def load_plugins(found: Iterable[EntryPoint], allow_list: str | None) -> PluginHost:
    """Load the built-in plugin and the entry points.

    Args:
        found: entry points of the group `otcache`.
        allow_list: comma-separated names of those to load; None loads all, empty none.

    Raises:
        PluginError: two plugins register the same name.
    """
    registered = _Registries(OWN_DISTRIBUTION)
    registered.call_hooks(BUILTIN.load())
    plugins = [LoadedPlugin(BUILTIN.name, OWN_DISTRIBUTION, *registered.names())]
    allowed = None if allow_list is None else {name.strip() for name in allow_list.split(",")}
    for entry_point in sorted(found, key=lambda each: (each.name, each.value)):
        distribution = _distribution(entry_point)
        if allowed is not None and entry_point.name not in allowed:
            plugins.append(LoadedPlugin(entry_point.name, distribution, skipped=True))
            continue
        # Into registries of its own first: a plugin that breaks half-way registers nothing.
        own = _Registries(distribution)
        try:
            own.call_hooks(entry_point.load())
        except Exception as error:  # whatever a stranger's module raises must not end the program
            reason = f"{type(error).__name__}: {error}"
            plugins.append(LoadedPlugin(entry_point.name, distribution, error=reason))
            continue
        registered.take_over(own)
        plugins.append(LoadedPlugin(entry_point.name, distribution, *own.names()))
    return PluginHost(registered.policies, registered.executors, registered.metrics, tuple(plugins))


def _distribution(entry_point: EntryPoint) -> str:
    if entry_point.dist is None:
        return UNKNOWN_DISTRIBUTION
    return f"{entry_point.dist.name} {entry_point.dist.version}"


class _Registries:
    """What one distribution registers, or all of them together."""

    def __init__(self, distribution: str) -> None:
        self.policies = PolicyRegistry(distribution)
        self.executors = ExecutorRegistry(distribution)
        self.metrics = MetricRegistry(distribution)

    def call_hooks(self, plugin: object) -> None:
        """Call one plugin's hooks; a manager of its own keeps its errors apart."""
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(plugin)
        manager.check_pending()
        manager.hook.otcache_register_policies(registry=self.policies)
        manager.hook.otcache_register_executors(registry=self.executors)
        manager.hook.otcache_register_metrics(registry=self.metrics)

    def take_over(self, other: _Registries) -> None:
        """Add all of the others; raise PluginError at a name that is taken."""
        self.policies.take_over(other.policies)
        self.executors.take_over(other.executors)
        self.metrics.take_over(other.metrics)

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the names of the policies, the executors and the metrics."""
        return tuple(self.policies), tuple(self.executors), tuple(self.metrics)
