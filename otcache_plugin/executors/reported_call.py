"""A call of a pipeline whose runs are reported, which every executor's calls are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.pipelines.calls import Call
from otcache_plugin.runs.report import report_of_call

if TYPE_CHECKING:
    from otcache_plugin.runs.report import RunReport


class ReportedCall(Call):
    """A call that knows what its run under way has done, and keeps what the earlier ones did.

    Args:
        before: the report of what was before, which stays until the call's first run begins.
    """

    def __init__(self, before: RunReport) -> None:
        self._before = before
        self._ended: tuple[RunReport, ...] = ()

    def report(self) -> RunReport:
        """Return the current or last run, and the call's earlier ones."""
        under_way = self._run_report()
        runs = self._ended if under_way is None else (*self._ended, under_way)
        return report_of_call(runs, self._before)

    def _keep_report(self) -> None:
        """Keep what the run under way has done, before it is dropped."""
        under_way = self._run_report()
        if under_way is not None:
            self._ended += (under_way,)

    def _run_report(self) -> RunReport | None:
        """Return what the run under way has done, None where there is none or little is known."""
        raise NotImplementedError
