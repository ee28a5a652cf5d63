"""Hooks that threads put on what they share: nobody meets another's half placed or half gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from otcache_plugin.executors.twins import own_forward_slot
from otcache_plugin.pipelines.method_hook import MethodHook


class Placing:
    """Its method is called the moment that another stands in for it, as another thread may."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def method(self, word: str) -> str:
        return f"own {word}"

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "method":
            self.heard.append(self.method("word"))


def test_a_method_is_called_as_soon_as_another_stands_in_for_it() -> None:
    instance = Placing()
    hook = MethodHook(instance, "method", lambda original, word: f"another for {original(word)}")
    assert instance.heard == ["another for own word"]
    hook.remove()
    assert instance.method("word") == "own word"
    assert hook("word") == "own word"  # for who has kept it


class Shared(torch.nn.Identity):
    """Between one look at what is on it and the next, another thread does something."""

    meanwhile: Callable[[], None] | None = None

    @property
    def __dict__(self) -> dict[str, Any]:
        held: dict[str, Any] = torch.nn.Module.__dict__["__dict__"].__get__(self)
        work, Shared.meanwhile = Shared.meanwhile, None
        if work is None:
            return held
        seen = {**held}
        work()
        return seen


def test_the_hook_of_another_thread_is_gone_at_the_next_look() -> None:
    module, x = Shared(), torch.ones(1)
    hook = MethodHook(module, "forward", lambda original, x: original(x))
    Shared.meanwhile = hook.remove
    assert own_forward_slot(module) == (module, "forward")
    assert Shared.meanwhile is None
    assert "forward" not in vars(module)
    assert module(x) is x
