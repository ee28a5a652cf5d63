"""The probe executor, against loops over the blocks that are written from the papers' formulas."""

from __future__ import annotations

import threading
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig
from diffusers import FirstBlockCacheConfig
from diffusers.hooks import apply_group_offloading
from forced_decisions import Forced
from tiny_pipelines import (
    FLUX,
    QWEN,
    WAN,
    Z_IMAGE,
    Case,
    count_forwards,
    euler_scheduler,
    make_flux,
    make_qwen,
    make_single_wan,
    make_z_image,
    quiet,
    unipc_scheduler,
)
from tiny_pipelines.controlnets import make_flux_controlnet

import otcache_plugin
from otcache_plugin.errors import ArgumentError, ExecutionError, PipelineError

STEPS = 12
COMPUTED = (0, 1, 4, 5, 8, 11)
MODULATED = "modulated-input"


def make_deep_flux(**options: Any) -> Any:
    return make_flux(num_layers=3, num_single_layers=2, **options)


class LoopedFlux:
    """A transformer's forward as TeaCache and DiCache have it: one loop over all blocks.

    Its `forward` takes the place of the transformer's own, on a pipeline that has no policy.

    Args:
        transformer: a FluxTransformer2DModel.
        computed: the steps to compute.
        depth: blocks of DiCache's probe; 0 for TeaCache, which adds the last residual again.
    """

    def __init__(self, transformer: Any, computed: Any, depth: int) -> None:
        self.transformer, self.computed, self.depth = transformer, computed, depth
        self.step = 0
        self.residuals: list[torch.Tensor] = []
        self.probes: list[torch.Tensor] = []
        self.seen: list[torch.Tensor] = []

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        pooled_projections: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        txt_ids: torch.Tensor,
        img_ids: torch.Tensor,
        **_: Any,
    ) -> Any:
        net = self.transformer
        hidden = net.x_embedder(hidden_states)
        temb = net.time_text_embed(timestep * 1000, pooled_projections)
        encoder = net.context_embedder(encoder_hidden_states)
        common = {"temb": temb, "image_rotary_emb": net.pos_embed(torch.cat([txt_ids, img_ids]))}
        blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
        start = hidden
        if self.depth == 0:
            self.seen.append(blocks[0].norm1(hidden, emb=temb)[0])
        for number, block in enumerate(blocks):
            if self.step not in self.computed and number == self.depth:
                break
            encoder, hidden = block(hidden_states=hidden, encoder_hidden_states=encoder, **common)
            if number == self.depth - 1:
                self.seen.append(hidden)
                probe = hidden - start
        if self.step in self.computed:
            self.residuals.append(hidden - start)
            if self.depth:
                self.probes.append(probe)
        elif self.depth and len(self.residuals) > 1:
            before, last = self.probes[-2:]
            gain = (probe - before).abs().mean() / (last - before).abs().mean()
            gain = min(max(gain.item(), 1.0), 1.5)
            earlier, later = self.residuals[-2:]
            hidden = start + earlier + gain * (later - earlier)
        else:
            hidden = start + self.residuals[-1]
        self.step += 1
        return (net.proj_out(net.norm_out(hidden, temb)),)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_forced_decisions_give_what_a_loop_over_the_blocks_does(
    depth: int, use: Any, enable: Any
) -> None:
    reference = make_deep_flux()
    loop = LoopedFlux(reference.transformer, COMPUTED, depth)
    reference.transformer.forward = loop.forward
    expected = FLUX.run(reference, num_inference_steps=STEPS)

    observed = [MODULATED, "after-1-block", "", "after-3-blocks"][depth]
    policy = use(Forced(COMPUTED, observed, look_back=2 if depth else 1))
    pipe = make_deep_flux()
    enable(pipe, policy="forced")
    result = FLUX.run(pipe, num_inference_steps=STEPS)
    # The lists' residuals are kept apart, and their sum is rounded otherwise than the loop's one.
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)
    assert not torch.allclose(result, FLUX.run(make_deep_flux(), num_inference_steps=STEPS))
    # The last step is computed whatever there is to see, so nobody looks.
    assert len(policy.seen) == STEPS - 1
    for seen, wanted in zip(policy.seen, loop.seen, strict=False):
        torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-5)

    report = otcache_plugin.summary(pipe)
    assert (report.executor, report.as_planned) == ("probe", True)
    assert report.computed_steps == COMPUTED
    assert report.transformer_calls == STEPS
    cost = report.block_evaluations
    assert cost is not None
    assert cost.of_full_run == 5 * STEPS
    assert cost.run == 5 * len(COMPUTED) + depth * (STEPS - len(COMPUTED))
    assert f"{cost.run} of 60 block evaluations), decided at run time: 0 1 4 5 8 11" in str(report)


CASES = {
    "flux": (FLUX, make_deep_flux),
    "flux, two calls": (Case("", make_flux, FLUX.arguments, 2, "", {"true_cfg": True}), make_flux),
    "qwen, two calls": (QWEN, make_qwen),
    "z-image, doubled batch": (Z_IMAGE, make_z_image),
    "wan": (WAN, make_single_wan),
    "wan, unipc": (WAN, lambda: make_single_wan(scheduler=unipc_scheduler())),
}


@pytest.mark.parametrize(
    ("name", "observes"),
    [*((name, MODULATED) for name in CASES), ("flux", "after-2-blocks"), ("wan", "after-1-block")],
)
def test_all_steps_computed_is_the_full_run_bit_for_bit(
    name: str, observes: str, use: Any, enable: Any
) -> None:
    case, make = CASES[name]
    expected = case.run(make(), num_inference_steps=6)
    policy = use(Forced(range(6), observes))
    pipe = make()
    enable(pipe, policy="forced")
    assert torch.equal(case.run(pipe, num_inference_steps=6), expected)
    report = otcache_plugin.summary(pipe)
    assert report.computed_steps == tuple(range(6))
    assert report.block_evaluations is not None
    assert report.block_evaluations.run == report.block_evaluations.of_full_run
    assert len(policy.seen) == 5
    cache_dit.disable_cache(pipe)
    assert torch.equal(case.run(pipe, num_inference_steps=6), expected)


def test_each_guidance_branch_has_its_own_residual_and_one_decision(use: Any, enable: Any) -> None:
    computed = (0, 2, 5)
    pipe = make_single_wan()
    blocks = pipe.transformer.blocks
    # By hand: what the blocks are called with and give in every call, none of them left out.
    policy = use(Forced(computed, MODULATED))
    inputs: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    handles = [
        pipe.transformer.patch_embedding.register_forward_hook(
            lambda _, __, output: inputs.append(output.flatten(2).transpose(1, 2))
        ),
        pipe.transformer.norm_out.register_forward_pre_hook(
            lambda _, given: outputs.append(given[0].clone())
        ),
    ]
    enable(pipe, policy="forced")
    with count_forwards(blocks[-1]) as forwards:
        WAN.run(pipe, num_inference_steps=6)
    for handle in handles:
        handle.remove()
    assert otcache_plugin.summary(pipe).computed_steps == computed
    assert len(policy.seen) == 5  # one decision per step, of two calls each
    assert len(forwards) == 2 * len(computed)
    assert len(inputs) == len(outputs) == 12
    added = [out.float() - given.float() for given, out in zip(inputs, outputs, strict=True)]
    for step, last in ((1, 0), (3, 2), (4, 2)):
        for branch in (0, 1):
            torch.testing.assert_close(
                added[2 * step + branch], added[2 * last + branch], rtol=0, atol=1e-5
            )
    assert not torch.allclose(added[0], added[1])


def test_nothing_is_left_on_what_others_share(use: Any, enable: Any) -> None:
    use(Forced((0,), MODULATED))
    pipe = make_deep_flux()
    transformer = pipe.transformer
    sibling = quiet(type(pipe)(**{**pipe.components, "scheduler": euler_scheduler()}))
    expected = FLUX.run(sibling, num_inference_steps=4)
    before = {name: dict(vars(module)) for name, module in transformer.named_modules()}
    enable(pipe, policy="forced")
    within: list[torch.Tensor] = []

    def run_sibling(*_: Any) -> None:
        handle.remove()  # Once; the sibling's run comes by here as well.
        thread = threading.Thread(
            target=lambda: within.append(FLUX.run(sibling, num_inference_steps=4))
        )
        thread.start()
        thread.join()

    handle = transformer.norm_out.register_forward_pre_hook(run_sibling)
    FLUX.run(pipe, num_inference_steps=4)
    assert torch.equal(within[0], expected)
    assert torch.equal(FLUX.run(sibling, num_inference_steps=4), expected)
    after = {name: dict(vars(module)) for name, module in transformer.named_modules()}
    assert after == before


def test_what_cannot_be_probed_is_refused_by_name(use: Any) -> None:
    use(Forced((0,), MODULATED))
    exact = otcache_plugin.load_exact_flow_pipeline()
    with pytest.raises(PipelineError, match=r"ExactFlow.*cache-dit knows no blocks of this"):
        cache_dit.enable_cache(exact, policy="forced")
    pipe = make_flux()
    pipe.transformer.compile(backend="eager")
    with pytest.raises(PipelineError, match="compiled as a whole"):
        cache_dit.enable_cache(pipe, policy="forced")
    with pytest.raises(ArgumentError, match="gives a schedule"):
        cache_dit.enable_cache(make_flux(), policy="uniform", executor="probe")
    pipe = make_flux()
    cpu = torch.device("cpu")
    apply_group_offloading(
        pipe.transformer, cpu, cpu, offload_type="block_level", num_blocks_per_group=1
    )
    with pytest.raises(PipelineError, match="the first block is offloaded as a whole"):
        cache_dit.enable_cache(pipe, policy="forced")
    use(Forced((0,), "after-2-blocks"))
    with pytest.raises(PipelineError, match="1 of them in transformer_blocks"):
        cache_dit.enable_cache(make_flux(), policy="forced")
    use(Forced((0,), "clouds"))
    with pytest.raises(ArgumentError, match=r"observes='clouds': no executor shows what policy"):
        cache_dit.enable_cache(make_flux(), policy="forced")


@pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")
def test_a_transformer_that_cannot_run_in_part_is_refused_by_what_is_done_to_it(use: Any) -> None:
    use(Forced((0,), MODULATED))

    def refused(pipe: Any) -> str:
        with pytest.raises(PipelineError) as caught:
            cache_dit.enable_cache(pipe, policy="forced")
        return str(caught.value)

    pipe = make_flux()
    pipe.transformer._is_parallelized = True
    assert "split among several devices" in refused(pipe)
    pipe = make_flux()
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    assert "Call transformer.disable_cache() first" in refused(pipe)
    pipe.transformer.disable_cache()
    cache_dit.enable_cache(pipe, policy="forced")
    pipe = make_flux()
    pipe.transformer.forward = LoopedFlux(pipe.transformer, COMPUTED, 0).forward
    assert "the transformer's own forward was replaced" in refused(pipe)
    pipe = make_flux()
    pipe.transformer.transformer_blocks[0].attn = torch.nn.Identity()
    assert "the first block has no attention of diffusers' classes" in refused(pipe)
    assert "runs before the transformer's features can be seen" in refused(make_flux_controlnet())


def test_the_block_cache_of_cache_dit_contradicts_it(use: Any) -> None:
    use(Forced((0,), MODULATED))
    with pytest.raises(ArgumentError, match=r"^cache_config=.*contradicts executor='probe'"):
        cache_dit.enable_cache(make_flux(), policy="forced", cache_config=DBCacheConfig())


def test_what_a_policy_observes_says_whether_it_can_be_probed(use: Any) -> None:
    use(Forced((0,), "latents"))
    with pytest.raises(ArgumentError, match=r"policy 'forced' observes 'latents' to decide"):
        cache_dit.enable_cache(make_flux(), policy="forced", executor="probe")
    for observed, most in ((MODULATED, 1), ("after-1-block", 2)):
        use(Forced((0,), observed, look_back=most))
        cache_dit.enable_cache(make_deep_flux(), policy="forced")
        use(Forced((0,), observed, look_back=most + 1))
        with pytest.raises(ArgumentError, match=f"has a look-back of {most + 1}"):
            cache_dit.enable_cache(make_deep_flux(), policy="forced")


def test_a_transformer_that_is_replaced_in_the_middle_of_a_call_is_noticed(
    use: Any, enable: Any
) -> None:
    def replace(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == 2:
            pipe.transformer = other.transformer
        return tensors

    use(Forced(COMPUTED, MODULATED))
    pipe, other = make_flux(), make_flux()
    enable(pipe, policy="forced")
    with pytest.raises(ExecutionError, match=r"Set pipe\.transformer before the call"):
        FLUX.run(pipe, num_inference_steps=STEPS, callback_on_step_end=replace)
