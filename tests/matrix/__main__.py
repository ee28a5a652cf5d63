"""Try every pipeline, or those whose names hold a word: `python -m matrix [WORD]…`.

Every row has a process of its own, so that a crash or a hang in one does not end the others. The
results are written as they come; rows that were not tried keep theirs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import multiprocessing
import sys
import warnings
from multiprocessing.connection import Connection

import torch
from tiny_pipelines.building import Row

from matrix.outcomes import Tried
from matrix.results import read_results, write_results
from matrix.rows import ROWS
from matrix.trial import try_row

IMPORTED_LATE = ("cache_dit.caching.block_adapters", "otcache_plugin.enabling.enable")
"""Imported once, and not in every process."""

SECONDS = 300
"""How long a row may take, on a busy machine too."""


def main() -> int:
    """Try the rows, and say what came of them."""
    parser = argparse.ArgumentParser(prog="python -m matrix", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="in the pipeline's name")
    words = parser.parse_args().words
    torch.set_num_threads(1)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    chosen = [row for row in ROWS if not words or any(word in str(row) for word in words)]
    results = {name: tried for name, tried in read_results().items() if name in map(str, ROWS)}
    for row in chosen:
        results[str(row)] = tried = try_apart(row)
        write_results({str(each): results[str(each)] for each in ROWS if str(each) in results})
        print(f"{row}: {tried.summary()}", flush=True)
    return int(any(results[str(row)].failures() for row in chosen))


def try_apart(row: Row) -> Tried:
    """Try a row in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_try_and_send, args=(row, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            return Tried.broken(row, f"no result within {SECONDS} seconds")
        tried: Tried = receiver.recv()
    except EOFError:
        process.join()
        return Tried.broken(row, f"the process ended with exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()
    return tried


def _try_and_send(row: Row, sender: Connection) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        tried = try_row(row)
    except Exception as error:
        tried = Tried.broken(row, f"{type(error).__name__}: {' '.join(str(error).split())}")
    sender.send(tried)
    sender.close()


if __name__ == "__main__":
    sys.exit(main())
