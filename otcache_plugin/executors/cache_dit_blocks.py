"""Whether cache-dit's blocks cache fits a pipeline: it goes by the name of the pipeline's class."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

from otcache_plugin.pipelines.parts import FEEDERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline


def is_known(pipe: DiffusionPipeline) -> bool:
    """Return whether cache-dit has an adapter for pipelines of this name."""
    from cache_dit.caching.block_adapters import BlockAdapterRegister

    return bool(BlockAdapterRegister.is_supported(pipe))


def misfit(pipe: DiffusionPipeline) -> str | None:
    """Return why the adapter for pipelines of this name fails on this one; None where it fits.

    Nothing is said of a pipeline with a ControlNet: the adapter would patch its transformer.

    Args:
        pipe: a pipeline that cache-dit knows.
    """
    if any(getattr(pipe, name, None) is not None for name in FEEDERS):
        return None
    try:
        adapter = block_adapter(pipe)
    except AssertionError as error:
        return f"cache-dit cannot put its cache on a {type(pipe).__name__} of it: {error}"
    if adapter.patch_functor is not None:  # it gives the blocks forwards of its own
        return None
    for blocks, pattern in zip(
        listed(adapter.blocks), listed(adapter.forward_pattern), strict=True
    ):
        for block in {type(each) for each in blocks}:
            returned = returned_names(block.forward)
            if returned != pattern.Out and {*returned} == {*pattern.Out}:
                return (
                    f"cache-dit takes what its {block.__name__} returns for "
                    f"{' and '.join(pattern.Out)}, and it is {' and '.join(returned)}"
                )
    return None


def block_adapter(pipe: DiffusionPipeline) -> Any:
    """Return cache-dit's adapter of a pipeline that it knows, of which nothing is patched."""
    from cache_dit.caching.block_adapters import BlockAdapterRegister

    return BlockAdapterRegister.get_adapter(pipe, skip_post_init=True)


def listed(value: Any) -> list[Any]:
    """Return what an adapter has one or several of."""
    return value if isinstance(value, list) else [value]


@cache
def returned_names(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the tensors that a block's forward returns, () where they have none."""
    try:
        source = inspect.getsource(inspect.unwrap(forward))
    except OSError:  # installed without its source, which says nothing against it
        return ()
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            return tuple(each.id for each in node.value.elts if isinstance(each, ast.Name))
    return ()
