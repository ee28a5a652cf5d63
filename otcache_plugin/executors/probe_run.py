"""What one run under the probe executor has done so far, and the calls of the transformer in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_plugin.executors.block_lists import hidden_and_encoder
from otcache_plugin.executors.residuals import Residuals

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from otcache_plugin.executors.block_lists import BlockList
    from otcache_plugin.executors.probes import Probe
    from otcache_plugin.runs.resolution import DecidedRun


class ProbeRun:
    """The state of one run, dropped with it.

    Its first step is computed whatever it follows, so a run begins before that is known.

    Args:
        look_back: computed steps whose residuals are kept.

    Attributes:
        step: the one at hand.
        calls_in_step: of the transformer.
        computed_steps: those in all of whose calls every block ran.
        transformer_calls: so far.
        blocks_run: in them.
        blocks_of_full_run: that they would have run, had every step been computed.
    """

    def __init__(self, look_back: int) -> None:
        self.step = 0
        self.calls_in_step = 0
        self.computed_steps: list[int] = []
        self.transformer_calls = 0
        self.blocks_run = 0
        self.blocks_of_full_run = 0
        self._look_back = look_back
        self._branches: list[Residuals] = []
        self._resolution: DecidedRun | None = None
        self._first: torch.Tensor | None = None
        self._computing: bool | None = True
        self._computed = True

    @property
    def is_known(self) -> bool:
        """Whether it is known what the run follows."""
        return self._resolution is not None

    @property
    def resolution(self) -> DecidedRun:
        """What the run follows."""
        assert self._resolution is not None, "known by the end of the first step"
        return self._resolution

    def follow(self, resolution: DecidedRun) -> None:
        """Know what the run follows."""
        self._resolution = resolution
        if self._first is not None:
            resolution.begin(self._first)
            self._first = None

    @property
    def finished(self) -> bool:
        """Whether the last step has been taken."""
        return self.is_known and self.step == self.resolution.num_inference_steps

    @property
    def awaits_observation(self) -> bool:
        """Whether the policy is yet to be shown something of the step at hand."""
        return self.calls_in_step == 1 and not self._is_last

    @property
    def _is_last(self) -> bool:
        return self.is_known and self.step == self.resolution.num_inference_steps - 1

    def observe(self, feature: torch.Tensor) -> None:
        """Show the policy what it observes of the step at hand, once, and have it decide."""
        if self.step > 0:
            self._computing = self.resolution.computes(self.step, feature)
        elif self.is_known:
            self.resolution.begin(feature)
        else:
            self._first = feature

    @property
    def computes(self) -> bool:
        """Whether the step at hand is computed, as was decided."""
        assert self._computing is not None, "observed by now"
        return self._computing

    def branch(self) -> Residuals:
        """Return what is kept for the call that begins: one of a step's, by its number."""
        if self.calls_in_step == len(self._branches):
            self._branches.append(Residuals(self._look_back))
        self.calls_in_step += 1
        self.transformer_calls += 1
        return self._branches[self.calls_in_step - 1]

    def note_call(self, blocks_run: int, blocks: int) -> None:
        """Take note of a call that has been made."""
        self.blocks_run += blocks_run
        self.blocks_of_full_run += blocks
        self._computed = self._computed and blocks_run == blocks

    def end_step(self) -> None:
        """Go on to the next step."""
        if self._computed:
            self.computed_steps.append(self.step)
            # What a branch had, of which this step has no call, is out of date.
            del self._branches[self.calls_in_step :]
        self.step, self.calls_in_step, self._computed = self.step + 1, 0, True
        # The last one is computed whatever there is to see; that it is asked for ends the decider.
        self._computing = self.resolution.computes(self.step, None) if self._is_last else None
        if self.finished:
            self._branches.clear()


@dataclass(frozen=True)
class Place:
    """Where a block is.

    Attributes:
        block_list: number of its list.
        number: of the block in it.
    """

    block_list: int
    number: int


class ProbedForward:
    """One call of the transformer, its blocks run or left out.

    The blocks of the probe run at every step; what they give, or what the first one is called with,
    is shown to the policy. If that has the step cached the other blocks leave what they are given
    as it is, and at the end of each list what its blocks have added before is added again.

    Args:
        run: that the call is one of.
        residuals: of its guidance branch.
        probe: what is observed.
        lists: of the transformer's blocks.
    """

    def __init__(
        self, run: ProbeRun, residuals: Residuals, probe: Probe, lists: Sequence[BlockList]
    ) -> None:
        self._run, self._residuals = run, residuals
        self._probe, self._lists = probe, lists
        self._blocks_run = 0
        self._starts: list[torch.Tensor] = []
        self._gain: torch.Tensor | None = None
        self._computing = False

    def end(self) -> None:
        """Have the run take note of what the call did."""
        self._run.note_call(self._blocks_run, sum(each.length for each in self._lists))

    def block(self, place: Place, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a block, or do as if."""
        block_list, probe = self._lists[place.block_list], self._probe
        hidden, encoder = hidden_and_encoder(block, args, kwargs)
        if place.number == 0:
            self._starts.append(hidden)
        if place == Place(0, 0) and probe.modulated_input is not None:
            if self._run.awaits_observation:
                self._run.observe(probe.modulated_input.of_call(args, kwargs))
            self._decide(None)
        output = None
        if self._computing or (place.block_list == 0 and place.number < probe.depth):
            output = block(*args, **kwargs)
            self._blocks_run += 1
            hidden = block_list.hidden_of(output)
        if place == Place(0, probe.depth - 1):
            if self._run.awaits_observation:
                self._run.observe(hidden)
            self._decide(hidden - self._starts[0] if probe.look_back > 1 else None)
        if place.number < block_list.length - 1:
            return block_list.output(hidden, encoder) if output is None else output
        start = self._starts[-1]
        if self._computing:
            self._residuals.keep(place.block_list, hidden - start)
            return output
        hidden = start + self._residuals.estimate(place.block_list, self._gain)
        return block_list.output(hidden, encoder)

    def _decide(self, probe_residual: torch.Tensor | None) -> None:
        """Compute the call if its step is, or if there is nothing to stand in for its blocks.

        Args:
            probe_residual: what the probe's blocks have added, where residuals are extrapolated.
        """
        self._computing = self._run.computes or not self._residuals.fit(self._starts[0])
        if self._computing:
            self._residuals.begin(probe_residual)
        elif probe_residual is not None:
            self._gain = self._residuals.gain(probe_residual)
