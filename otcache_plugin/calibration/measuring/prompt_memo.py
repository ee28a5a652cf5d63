"""Prompt embeddings, computed once: after that a calibration does without the text encoders.

A calibration runs the same prompts hundreds of times, and text encoders are often larger than what
is left of the memory beside the transformer. Embeddings are kept per `encode_prompt` call, with
all its arguments, for what a pipeline makes of a prompt may depend on the rest of its batch.
"""

from __future__ import annotations

import copy
import gc
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.method_hook import MethodHook
from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from diffusers import DiffusionPipeline

PLAIN = (str, int, float, type(None), torch.dtype, torch.device)
"""Types of what can be compared, copied and kept, besides lists, tuples and dicts of it."""


class _NotPlainError(Exception):
    """Something that embeddings cannot be kept by, or that is no embedding."""


class _ReachedDenoiserError(Exception):
    """Stops a pipeline at its first transformer call."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """A tensor on the CPU, and where it was."""

    tensor: torch.Tensor
    device: torch.device


class PromptMemo:
    """Remembers what a pipeline's `encode_prompt` gave, until removed.

    Every answer is a fresh copy on the device of the first. Calls with tensors or pictures among
    their arguments are passed on. What is remembered does not notice that a text encoder's
    weights have changed.

    Args:
        pipe: any pipeline; one without `encode_prompt` is left as it is.
    """

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self._pipe = pipe
        self._memory: dict[Hashable, Any] = {}
        self._rehearsal: tuple[tuple[str, ...], Mapping[str, Any]] | None = None
        self._freed = False
        self._hook: MethodHook | None = None
        if hasattr(pipe, "encode_prompt"):
            self._signature = inspect.signature(pipe.encode_prompt)
            self._hook = MethodHook(pipe, "encode_prompt", self._encode)

    def remove(self) -> None:
        """Give the pipeline its own `encode_prompt` back, not its freed text encoders."""
        if self._hook is not None:
            self._hook.remove()
        self._memory.clear()

    def encode_ahead(
        self,
        batches: Sequence[Sequence[str]],
        call_arguments: Mapping[str, Any],
        on_batch: Callable[[], object] = lambda: None,
    ) -> None:
        """Encode batches of prompts as calls of the pipeline with them will.

        Each call is begun and stopped at its first transformer call: only the pipeline itself
        knows what it passes to `encode_prompt`, and how often.

        Args:
            batches: the prompts of each call.
            call_arguments: further arguments of every call.
            on_batch: is called after each batch that no other one equals.
        """
        if self._hook is None:
            return
        for batch in dict.fromkeys(tuple(batch) for batch in batches):
            self._rehearsal = batch, call_arguments
            _denoiser_inputs(self._pipe, batch, call_arguments)
            on_batch()

    def free_text_encoders(self) -> None:
        """Free the memory of the pipeline's text encoders; later, only known prompts can be used.

        The last batch that was encoded ahead is begun again without them, and its transformer has
        to get the very same inputs.

        Raises:
            PipelineError: the pipeline cannot go without; it has its text encoders still.
        """
        if self._hook is None:
            raise self._cannot_free("it has no encode_prompt, so its embeddings cannot be kept")
        if self._rehearsal is None:
            raise self._cannot_free("no prompts have been encoded ahead")
        encoders = {
            name: part
            for name, part in self._pipe.components.items()
            if name.startswith("text_encoder") and isinstance(part, torch.nn.Module)
        }
        expected = _denoiser_inputs(self._pipe, *self._rehearsal)
        try:
            self._freed = True
            self._set(dict.fromkeys(encoders))
            self._require_inputs(expected, *self._rehearsal)
        except BaseException:  # An interrupt, too, leaves the pipeline with its text encoders.
            self._freed = False
            self._set(encoders)
            raise
        encoders.clear()
        # Modules are full of reference cycles.
        gc.collect()
        torch.cuda.empty_cache()

    def _require_inputs(
        self,
        expected: Sequence[torch.Tensor],
        batch: Sequence[str],
        call_arguments: Mapping[str, Any],
    ) -> None:
        """Raise PipelineError unless the transformer gets these inputs, as the pipeline is now."""
        try:
            inputs = _denoiser_inputs(self._pipe, batch, call_arguments)
        except Exception as error:
            raise self._cannot_free(f"it needs them beyond encode_prompt ({error})") from error
        if not _same(inputs, expected):
            raise self._cannot_free("its transformer gets other inputs without them")

    def _set(self, parts: Mapping[str, torch.nn.Module | None]) -> None:
        for name, part in parts.items():
            setattr(self._pipe, name, part)

    def _cannot_free(self, reason: str) -> PipelineError:
        return PipelineError(
            "free_text_encoders",
            type(self._pipe).__name__,
            f"this pipeline's text encoders cannot be freed: {reason}",
            "Calibrate with free_text_encoders=False",
        )

    def _encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            key = _key([self._pipe._execution_device, bound.arguments])
        except _NotPlainError:
            return original(*args, **kwargs)
        if key not in self._memory:
            if self._freed:
                raise PipelineError(
                    "prompt",
                    bound.arguments.get("prompt"),
                    "it was not encoded in this batch and with these arguments before the text "
                    "encoders were freed",
                    "Encode it ahead, or load the pipeline again",
                )
            # Z-Image writes its chat template into the list that it is given.
            args, kwargs = copy.deepcopy((bound.args, bound.kwargs))
            result = original(*args, **kwargs)
            try:
                self._memory[key] = _each(result, torch.Tensor, _keep)
            except _NotPlainError:
                return result
        return _each(self._memory[key], _Kept, _copy)


def memoise_prompts(pipe: DiffusionPipeline) -> PromptMemo:
    """Make a pipeline encode every batch of prompts only once, until the memo is removed."""
    return PromptMemo(pipe)


def _key(value: Any) -> Hashable:
    """Equal for equal plain values, where 1 is not 1.0 but a list may be a tuple."""
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((_key(name), _key(item)) for name, item in value.items())
    raise _NotPlainError


def _each(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return a copy of nested plain values in which everything of a kind is changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, PLAIN):
        return value
    # Not their subclasses, which may be built from other arguments.
    if type(value) in (list, tuple):
        return type(value)(_each(item, kind, change) for item in value)
    if type(value) is dict:
        return {name: _each(item, kind, change) for name, item in value.items()}
    raise _NotPlainError


def _keep(tensor: torch.Tensor) -> _Kept:
    return _Kept(tensor.detach().to("cpu", copy=True), tensor.device)


def _copy(kept: _Kept) -> torch.Tensor:
    return kept.tensor.to(kept.device, copy=True)


@torch.no_grad()
def _denoiser_inputs(
    pipe: DiffusionPipeline, batch: Sequence[str], call_arguments: Mapping[str, Any]
) -> list[torch.Tensor]:
    """Begin a call of the pipeline; give the tensors of its first transformer call."""
    inputs: list[torch.Tensor] = []

    def stop(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.extend(_tensors([args, kwargs]))
        raise _ReachedDenoiserError

    handles = [
        denoiser.register_forward_pre_hook(stop, with_kwargs=True)
        for denoiser in find_denoisers(pipe)
    ]
    try:
        generator = [torch.Generator().manual_seed(seed) for seed in range(len(batch))]
        pipe(**{**call_arguments, "prompt": list(batch), "generator": generator})
    except _ReachedDenoiserError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _same(inputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return len(inputs) == len(expected) and all(
        (a.dtype, a.shape, a.device) == (b.dtype, b.shape, b.device)
        # Not a number equals nothing.
        and bool(((a == b) | ((a != a) & (b != b))).all())
        for a, b in zip(inputs, expected, strict=True)
    )
