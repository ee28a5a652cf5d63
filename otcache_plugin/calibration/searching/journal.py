"""The journal of trials: Optuna's own, so that its dashboard and its API can read a search.

A search that goes on after an interruption asks its sampler again from the start, with the same
seed, and what was measured answers it. So it comes by the same trials as those in the journal, or
the journal is not of this search.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.calibration.measuring.json_lines import read_whole_lines
from otcache_plugin.calibration.measuring.locked_folder import explained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.trial import FrozenTrial
    from otcache_policies import Schedule


class TrialJournal:
    """Every trial of a calibration's searches, one study per climb and per round.

    Args:
        path: the journal's file, made when it is not there. A last line cut off by a kill is
            dropped: that trial was not finished.

    Raises:
        WorkspaceError: the file is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self.usable():
            # Optuna's lock of a process that was killed; the working folder's own lock is held.
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
            if path.exists():
                read_whole_lines(path)
            self._storage = JournalStorage(JournalFileBackend(str(path)))

    def study(self, name: str) -> JournalStudy:
        """Return the study of that name, made when it is not there."""
        with self.usable():
            # Asked to make a study unless it is there, Optuna adds a line to the journal each time.
            known = name in optuna.get_all_study_names(self._storage)
            open_study = optuna.load_study if known else optuna.create_study
            study = open_study(storage=self._storage, study_name=name)
            return JournalStudy(self, study)

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Explain whatever keeps the journal from being read or written inside the block."""
        try:
            with explained(self.path.parent):
                yield
        except WorkspaceError:
            raise
        except Exception as error:  # Whatever Optuna trips over, the way out is the same.
            raise self.damaged(error) from None

    def damaged(self, error: Exception | str) -> WorkspaceError:
        """Return the error of a journal that cannot be used as it is."""
        return WorkspaceError(
            f"{self.path} is damaged ({error}). Delete it and start the same command again: what "
            "its trials measured is kept beside it, so it is written anew in no time."
        )


class JournalStudy:
    """The trials of one climb or round.

    Args:
        journal: the journal it is in.
        study: Optuna's study.
    """

    def __init__(self, journal: TrialJournal, study: optuna.Study) -> None:
        self._journal = journal
        self._study = study
        self._found = study.get_trials(deepcopy=False)
        self._kept = 0

    def keep(self, trial: FrozenTrial) -> None:
        """Write the next trial down, or see that it is the one that stands there.

        Raises:
            WorkspaceError: another one stands there, or the journal cannot be written; what it
                held is untouched.
        """
        number, self._kept = self._kept, self._kept + 1
        if number < len(self._found):
            found = self._found[number]
            if _identity(found) != _identity(trial):
                raise self._journal.damaged(
                    f"trial {number} of {self._study.study_name!r} is not the one searched"
                )
            return
        copy = create_trial(
            state=trial.state,
            params=trial.params,
            distributions=trial.distributions,
            value=trial.value,
            intermediate_values=trial.intermediate_values,
            user_attrs=trial.user_attrs,
        )
        with self._journal.usable():
            self._study.add_trial(copy)


def searched_trial(schedule: Schedule, loss: float | None) -> FrozenTrial:
    """Return the trial of a schedule that no sampler asked for; pruned where it has no loss."""
    return create_trial(
        state=TrialState.PRUNED if loss is None else TrialState.COMPLETE,
        value=loss,
        user_attrs={"state": repr((schedule.computed_steps, schedule.look_backs))},
    )


def _identity(trial: FrozenTrial) -> tuple[object, ...]:
    return trial.params, trial.value, trial.user_attrs.get("state")
