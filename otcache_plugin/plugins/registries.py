"""What plugins register: policies, executors and metrics, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from otcache_plugin.errors import PluginError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from otcache_policies import DecidingPolicy, Policy
    from otcache_registry import PolicyDetails, PolicyDocument, Sampling, Tables
    from otcache_registry.finding.nearest import RunSetup
    from pydantic import BaseModel

    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.pipelines.calls import Call
    from otcache_plugin.plugins.calibrating import Calibrator
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport

    Parameters = Any
    """An instance of a policy's own pydantic class; what it is only the policy knows."""

    ParametersClass = type[BaseModel] | Callable[[], type[BaseModel]]
    """The class of a policy's parameters, or a function that imports and gives it."""

    MakePolicy = Callable[[Parameters, Tables, Sampling], Policy | DecidingPolicy[Any]]
    """From parameters, tables and the sampling set-up of a document to its policy, which gives
    schedules or decides at every step."""

    Describe = Callable[[Parameters, PolicyDocument], PolicyDetails]
    """From parameters and their document to what is said of them."""

    Conversions = Mapping[str, Callable[[Parameters], Parameters]]
    """By the name of another policy, from its parameters to a policy's own."""

    MakeCalibrator = Callable[[], Calibrator]
    """Gives a calibrator; imports torch only when called."""

NO_CONVERSIONS: Conversions = MappingProxyType({})


class Activation(Protocol):
    """What an executor does on one pipeline, until another one or none is enabled on it."""

    def begin(self, pipe: Any, setup: RunSetup) -> Call:
        """Return what is made of the call of the pipeline that begins.

        What the call's arguments say of its runs is for `Plan.resolve`.
        """
        ...

    def report(self) -> RunReport:
        """Return the current or last run."""
        ...


class Executor(Protocol):
    """Makes a schedule happen inside a pipeline."""

    def prepare(self, pipe: Any, plan: Plan, cache_dit_arguments: Mapping[str, Any]) -> Activation:
        """Check that one pipeline can be served, and leave nothing on what it shares with others.

        Raise PipelineError or ArgumentError when it cannot; the pipeline then stays as it was.
        """
        ...


@dataclass(frozen=True)
class UncalibratedPolicy:
    """A policy that needs nothing but the number of steps.

    Attributes:
        make: from the number of inference steps of a run to its policy.
        description: one line for `otcache plugins`.
    """

    make: Callable[[int], Policy]
    description: str


def no_details(parameters: Parameters, document: PolicyDocument) -> PolicyDetails:
    """Say nothing of a document's parameters."""
    from otcache_registry import NO_DETAILS

    return NO_DETAILS


@dataclass(frozen=True)
class UncalibratedDecidingPolicy:
    """A policy that decides at every step, and needs nothing before.

    Attributes:
        make: gives the policy.
        description: one line for `otcache plugins`.
    """

    make: Callable[[], DecidingPolicy[Any]]
    description: str


@dataclass(frozen=True)
class CalibratedPolicy:
    """A policy that is made from a policy document.

    Attributes:
        parameters: the class of its parameters, or a function that gives it.
        make: from a document's parameters, tables and sampling set-up to the policy, which gives
            schedules or decides at every step.
        description: one line for `otcache plugins`.
        describe: what to say of a document in cards and in `otcache show`.
        converts: by the name of another policy, from its parameters to this policy's: that
            policy's documents serve this one as well, with the same tables.
        calibrator: gives what calibrates it, None where nothing does.
    """

    parameters: ParametersClass
    make: MakePolicy
    description: str
    describe: Describe
    converts: Conversions
    calibrator: MakeCalibrator | None

    def parameters_class(self) -> type[BaseModel]:
        """Return the class of its parameters."""
        return self.parameters if isinstance(self.parameters, type) else self.parameters()

    def parameters_of(self, document: PolicyDocument) -> Parameters:
        """Return a document's parameters, which are to be this policy's.

        Raises:
            DocumentError: they are not.
        """
        return self.read(document.parameters)

    def read(self, content: Mapping[str, Any]) -> Parameters:
        """Return the parameters that a mapping holds, or raise DocumentError."""
        from otcache_registry.documents.refusals import document_error
        from pydantic import ValidationError

        try:
            return self.parameters_class().model_validate(content)
        except ValidationError as error:
            raise document_error(error, "parameters") from None


RegisteredPolicy = UncalibratedPolicy | UncalibratedDecidingPolicy | CalibratedPolicy


@dataclass(frozen=True)
class RegisteredExecutor:
    """An executor, made whenever it is asked for.

    Attributes:
        make: gives the executor; imports torch only when called.
        description: one line for `otcache plugins`.
        shows: what it shows to policies that decide, by the names that these observe it under.
    """

    make: Callable[[], Executor]
    description: str
    shows: tuple[str, ...]


@dataclass(frozen=True)
class RegisteredMetric:
    """A metric, made whenever it is asked for.

    Attributes:
        make: gives the metric; imports torch only when called.
        description: one line for `otcache plugins`.
    """

    make: Callable[[], Metric]
    description: str


Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name; a name is taken once.

    Args:
        kind: what the entries are, for messages.
        distribution: what registers them.
    """

    def __init__(self, kind: str, distribution: str) -> None:
        self.kind = kind
        self.distribution = distribution
        self._entries: dict[str, tuple[Entry, str]] = {}

    def _add(self, name: str, entry: Entry) -> None:
        problem = self._problem_with(name)
        if problem:
            raise PluginError(
                f"{self.distribution} registers the {self.kind} {name!r}: {problem}. Rename it."
            )
        self._insert(name, entry, self.distribution)

    def _problem_with(self, name: str) -> str:
        """Why the name cannot be taken, empty when it can."""
        if name.isidentifier():
            return ""
        return "a name is an identifier, so that it cannot be mistaken for a path"

    def take_over(self, other: Self) -> None:
        """Add all of another registry; raise PluginError at a name that is taken."""
        for name, (entry, distribution) in other._entries.items():
            self._insert(name, entry, distribution)

    def _insert(self, name: str, entry: Entry, distribution: str) -> None:
        if name in self._entries:
            raise PluginError(
                f"{self.kind} {name!r} is registered by both {self._entries[name][1]} and "
                f"{distribution}. Uninstall one, or leave one out of OTCACHE_PLUGINS."
            )
        self._entries[name] = (entry, distribution)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def distribution_of(self, name: str) -> str:
        """Return the distribution that registered the name."""
        return self._entries[name][1]

    def get(self, name: str) -> Entry:
        """Return the entry of that name; raise UnknownNameError listing those there are."""
        if name not in self._entries:
            raise UnknownNameError(
                self.kind, name, f"no such {self.kind}", f"Use one of {', '.join(self)}"
            )
        return self._entries[name][0]


class PolicyRegistry(Registry[RegisteredPolicy]):
    """The policies that `policy=` knows by name."""

    def __init__(self, distribution: str) -> None:
        super().__init__("policy", distribution)

    def register_uncalibrated(
        self, name: str, make: Callable[[int], Policy], description: str
    ) -> None:
        """Register a policy made from the number of inference steps of a run."""
        self._add(name, UncalibratedPolicy(make, description))

    def register_deciding(
        self, name: str, make: Callable[[], DecidingPolicy[Any]], description: str
    ) -> None:
        """Register a policy that decides at every step of a run."""
        self._add(name, UncalibratedDecidingPolicy(make, description))

    def register_calibrated(
        self,
        name: str,
        *,
        parameters: ParametersClass,
        make: MakePolicy,
        description: str,
        describe: Describe = no_details,
        converts: Conversions = NO_CONVERSIONS,
        calibrator: MakeCalibrator | None = None,
    ) -> None:
        """Register a policy made from a policy document, of either kind.

        Args:
            name: its word in `policy=`, and in documents.
            parameters: pydantic class of what its documents hold, or a function that imports and
                gives it, so that listing plugins stays quick. JSON's arrays are tuples in it.
            make: from parameters, tables and the sampling set-up to the policy. Raises
                DocumentError where they do not fit each other.
            description: one line for `otcache plugins`.
            describe: from parameters and their document to what is said of them in cards and in
                `otcache show`. Raises DocumentError where the calibration's settings are wrong.
            converts: by the name of another policy, from its parameters to this policy's. Where
                there is no document of this policy, one of that policy is used, with its tables.
            calibrator: gives what calibrates it, when that is asked for.
        """
        entry = CalibratedPolicy(parameters, make, description, describe, converts, calibrator)
        self._add(name, entry)


class ExecutorRegistry(Registry[RegisteredExecutor]):
    """The executors that `executor=` knows by name."""

    def __init__(self, distribution: str) -> None:
        super().__init__("executor", distribution)

    def register(
        self,
        name: str,
        make: Callable[[], Executor],
        description: str,
        shows: Sequence[str] = (),
    ) -> None:
        """Register an executor; `make` is called whenever it is asked for.

        Args:
            name: its word in `executor=`.
            make: gives it.
            description: one line for `otcache plugins`.
            shows: what it shows to policies that decide at every step, such as "latents". Where no
                executor is asked for, one that shows what the policy observes is taken.
        """
        self._add(name, RegisteredExecutor(make, description, tuple(shows)))


class MetricRegistry(Registry[RegisteredMetric]):
    """The metrics that a calibration knows by name."""

    def __init__(self, distribution: str) -> None:
        super().__init__("metric", distribution)

    def register(self, name: str, make: Callable[[], Metric], description: str) -> None:
        """Register a metric; `make` is called whenever it is asked for."""
        self._add(name, RegisteredMetric(make, description))

    def _problem_with(self, name: str) -> str:
        if re.fullmatch("[a-z][a-z0-9-]*", name):
            return ""
        return "a metric's name is a small letter, then small letters, digits and hyphens"
