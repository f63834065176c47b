"""A model is loaded with the window, KV type and layers that fit, or refused with numbers before it is loaded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from qwenchat.chat.sampling import Sampling
from qwenchat.config import ModelSettings
from qwenchat.engines.local.failures import OTHER_MODEL
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.protocol import Device
from qwenchat.errors import CannotLoad, NotFound, Recovery, RecoveryKind, RemoteError
from qwenchat.models import catalogue
from qwenchat.models.context_sizes import context_sizes
from qwenchat.models.fit import PeerMemory, Resources
from qwenchat.models.gguf import ModelHeader, Rope, read_header
from qwenchat.models.layouts import FoundFile
from qwenchat.models.library import LocalModel
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.load_planner import LoadPlanner
from tests.fakes import ggufs

GIB = 2**30
SET = Sampling(top_k=7)
"""What the user has set."""


@pytest.fixture(scope="session")
def header(models: Path) -> ModelHeader:
    """Return a header of 7B's shape with 4.36 GiB of weights."""
    made = read_header(ggufs.write_model(models / "for-planning.gguf", shape=ggufs.Shape(context=32768)))
    shaped = structs.replace(made, layers=28, width=3584, heads=28, kv_heads=4, key_length=128, value_length=128)
    return structs.replace(shaped, file_size=4_683_071_264)


def planned(
    header: ModelHeader,
    free_gib: float,
    options: LoadOptions | None = None,
    gpu_gib: float = 0,
    settings: ModelSettings | None = None,
    *,
    sampling: Sampling = SET,
    drafts: Sequence[LocalModel] = (),
) -> PlannedModel:
    machine = Resources(64 * GIB, round(free_gib * GIB), gpu_available=round(gpu_gib * GIB))

    def named(wanted: str) -> list[LocalModel]:
        if found := [each for each in drafts if wanted in ("auto", each.reference)]:
            return found
        raise NotFound(f"There is no model {wanted}.")

    planner = LoadPlanner(
        resources=machine,
        devices=(),
        cores=8,
        settings=settings or ModelSettings(),
        sampling=sampling,
        catalogue=catalogue.load(),
        draft_models=named if drafts else lambda wanted: (),
    )
    return planner.plan(header, identity="x", reference="7b", name="7b", options=options or LoadOptions())


def test_much_memory_takes_the_native_window_in_f16(header: ModelHeader) -> None:
    plan = planned(header, 32).plan
    assert (plan.n_ctx, plan.kv_type, plan.gpu_layers, plan.threads, plan.yarn_factor) == (32768, "f16", 0, 8, 1)


def test_flash_attention_is_for_accelerators_long_windows_and_small_kv_types(header: ModelHeader) -> None:
    assert not planned(header, 32).plan.flash_attention
    assert planned(header, 32, gpu_gib=24).plan.flash_attention
    assert planned(header, 32, LoadOptions(kv_type="q8_0")).plan.flash_attention
    assert planned(header, 32, LoadOptions(ctx=65536)).plan.flash_attention
    assert not planned(header, 32, LoadOptions(gpu_layers=0), gpu_gib=24).plan.flash_attention


def test_the_file_s_advice_on_sampling_comes_before_qwen2_s(header: ModelHeader) -> None:
    made = planned(structs.replace(header, advised=Sampling(temperature=0.25, top_k=3)), 32)
    assert (made.defaults.temperature, made.defaults.top_k, made.defaults.top_p) == (0.25, 7, 0.8)


def test_less_memory_takes_a_smaller_kv_type_then_a_smaller_window(header: ModelHeader) -> None:
    assert planned(header, 7.5).plan.kv_type == "q8_0"
    assert [words for words in planned(header, 7.5).warnings if "8 bits (q8_0)" in words and "32,768" in words]
    assert not planned(header, 7.5, LoadOptions(kv_type="q8_0")).warnings  # as asked for
    assert planned(header, 7.5).plan.n_ctx == 32768
    assert 512 <= planned(header, 6.4).plan.n_ctx < 32768


def test_too_little_memory_is_refused_with_numbers_and_a_way_out(header: ModelHeader) -> None:
    with pytest.raises(CannotLoad, match=r"needs 5\.1\d GB .* 3\.22 GB") as caught:
        planned(header, 3)
    assert Recovery(RecoveryKind.LOAD_ANYWAY) in caught.value.recoveries
    with pytest.raises(CannotLoad) as caught:
        planned(header, 5.5, LoadOptions(ctx=32768))
    smaller, *others = caught.value.recoveries
    assert smaller.kind is RecoveryKind.SMALLER_CONTEXT and OTHER_MODEL in others
    assert planned(header, 5.5, LoadOptions(ctx=smaller.value, kv_type="q8_0")).plan.n_ctx == smaller.value < 32768
    assert planned(header, 3, LoadOptions(force=True)).plan.n_ctx >= 512


def test_yarn_begins_beyond_the_native_window_with_a_warning(header: ModelHeader) -> None:
    stretched = planned(header, 64, LoadOptions(ctx=131072))
    assert stretched.plan.yarn_factor == 4
    assert "YaRN" in stretched.warnings[0]
    assert not planned(header, 64, LoadOptions(ctx=32768)).warnings
    with pytest.raises(CannotLoad, match="131,072") as caught:
        planned(header, 64, LoadOptions(ctx=200_000))
    assert caught.value.recoveries == (Recovery(RecoveryKind.SMALLER_CONTEXT, 131_072), OTHER_MODEL)
    with pytest.raises(CannotLoad, match="32,768"):
        planned(structs.replace(header, width=1536), 64, LoadOptions(ctx=40_000))


@pytest.mark.parametrize(
    ("stated", "rope", "sizes", "factors"),
    [
        (32_768, Rope(freq_base=1e6), (32_768, 131_072), {32_768: 1.0, 65_536: 2.0}),  # Qwen2-7B-Instruct
        (131_072, Rope(freq_base=1e6), (32_768, 131_072), {32_768: 1.0, 131_072: 4.0}),  # Qwen2-7B
        (
            131_072,
            Rope(freq_base=10_000),
            (131_072, 131_072),
            {32_768: 1.0, 131_072: 1.0},
        ),  # R1-Distill-Qwen-7B
        (1_010_000, Rope(freq_base=1e7), (1_010_000, 1_010_000), {262_144: 1.0}),  # Qwen2.5-7B-Instruct-1M
        (4096, Rope(freq_base=10_000), (4096, 4096), {4096: 1.0}),  # Qwen2.5-Math-7B
        (131_072, Rope(1e6, "yarn", 4.0, 32_768), (32_768, 131_072), {32_768: 1.0, 33_024: 4.0}),
        (32_768, Rope(1e6, "yarn", 4.0, 32_768), (32_768, 131_072), {8192: 1.0, 131_072: 4.0}),
        (32_768, Rope(1e6, "yarn", 2.0, 0), (32_768, 65_536), {32_768: 1.0, 65_536: 2.0}),
        (16_384, Rope(10_000, "linear", 4.0, 4096), (16_384, 16_384), {4096: 0.0, 16_384: 0.0}),
        (32_768, Rope(1e6, "yarn", 0.0, 0), (32_768, 131_072), {65_536: 2.0}),
    ],
)
def test_yarn_is_added_only_where_a_file_needs_it(
    header: ModelHeader, stated: int, rope: Rope, sizes: tuple[int, int], factors: dict[int, float]
) -> None:
    made = structs.replace(header, context_length=stated, rope=rope)
    found, (native, limit) = context_sizes(made, catalogue.load()), sizes
    assert (found.native, found.limit) == sizes
    for n_ctx, factor in factors.items():
        plan = planned(made, 512, LoadOptions(ctx=n_ctx)).plan
        assert (plan.n_ctx, plan.yarn_factor, plan.native_ctx) == (n_ctx, factor, native)
    assert planned(made, 512).plan.n_ctx == min(native, 32_768)
    with pytest.raises(CannotLoad, match=f"{limit:,}"):
        planned(made, 512, LoadOptions(ctx=limit + 1))


@pytest.mark.parametrize(
    ("name", "shape", "stated", "sizes"),
    [
        ("Qwen2.5 7B Instruct", (28, 3584), (32_768, 1e6), (32_768, 131_072)),
        ("qwen2.5-3b-instruct", (36, 2048), (32_768, 1e6), (32_768, 32_768)),
        ("Qwen2.5 14B Instruct", (48, 5120), (32_768, 1e6), (32_768, 131_072)),
        ("Some Finetune 14B", (48, 5120), (32_768, 1e6), (32_768, 131_072)),
        ("Qwen2.5 7B Instruct 1M", (28, 3584), (1_010_000, 1e7), (1_010_000, 1_010_000)),
        ("QwQ 32B", (64, 5120), (40_960, 1e6), (32_768, 131_072)),
        ("DeepSeek R1 Distill Qwen 7B", (28, 3584), (131_072, 1e4), (131_072, 131_072)),
        ("DeepSeek R1 Distill Qwen 14B", (48, 5120), (131_072, 1e6), (131_072, 131_072)),
        ("Qwen2.5 Math 7B Instruct", (28, 3584), (4096, 1e4), (4096, 4096)),
        ("Qwen2.5 7B Instruct", (28, 3584), (262_144, 1e7), (262_144, 262_144)),  # the file knows better
    ],
)
def test_the_windows_of_relatives(
    header: ModelHeader, name: str, shape: tuple[int, int], stated: tuple[int, float], sizes: tuple[int, int]
) -> None:
    """`stated` are the context window and the base frequency in the file's header."""
    (layers, width), (n_ctx, freq_base) = shape, stated
    rope = Rope(freq_base=freq_base)
    made = structs.replace(header, name=name, layers=layers, width=width, context_length=n_ctx, rope=rope)
    found = context_sizes(made, catalogue.load())
    assert (found.native, found.limit) == sizes


@pytest.mark.parametrize(
    ("name", "shape", "advised"),
    [
        ("QwQ 32B", (64, 5120), (0.6, 0.95, 40, 1.0)),
        ("DeepSeek R1 Distill Qwen 7B", (28, 3584), (0.6, 0.95, 0, 1.0)),
        ("deepseek-r1-distill-qwen-1.5b", (28, 1536), (0.6, 0.95, 0, 1.0)),
        ("Qwen2.5 Math 7B Instruct", (28, 3584), (0.0, 0.8, 20, 1.0)),
        ("Qwen2.5 Coder 7B Instruct", (28, 3584), (0.7, 0.8, 20, 1.05)),
        ("QwQ 32B", (28, 3584), (0.7, 0.8, 20, 1.05)),  # another model by that name
    ],
)
def test_sampling_follows_what_the_makers_of_each_relative_advise(
    header: ModelHeader, name: str, shape: tuple[int, int], advised: tuple[float, float, int, float]
) -> None:
    layers, width = shape
    made = structs.replace(header, name=name, layers=layers, width=width, rope=Rope(freq_base=1e6))
    given = planned(made, 512, sampling=Sampling()).defaults
    assert (given.temperature, given.top_p, given.top_k, given.repeat_penalty) == advised
    assert planned(structs.replace(made, advised=Sampling(temperature=0.3)), 512).defaults.temperature == 0.3
    assert planned(made, 512, sampling=Sampling(temperature=1.2)).defaults.temperature == 1.2


def test_the_small_sizes_have_no_yarn(header: ModelHeader) -> None:
    for layers, width in ((24, 896), (28, 1536)):
        for stated in (32_768, 131_072):
            sizes = context_sizes(
                structs.replace(header, layers=layers, width=width, context_length=stated), catalogue.load()
            )
            assert (sizes.native, sizes.limit) == (32_768, 32_768)
    distilled = structs.replace(header, width=1536, context_length=131_072, rope=Rope(freq_base=10_000))
    assert context_sizes(distilled, catalogue.load()).native == 131_072


def test_settings_of_sampling_stand_over_the_makers(header: ModelHeader) -> None:
    defaults = planned(header, 32).defaults
    assert (defaults.top_k, defaults.top_p, defaults.repeat_penalty) == (7, 0.8, 1.05)


def test_a_setting_larger_than_the_model_allows_is_cut_down(header: ModelHeader) -> None:
    small = structs.replace(header, width=896)
    assert planned(small, 64, settings=ModelSettings(context=131072)).plan.n_ctx == 32768


def test_layers_go_to_the_accelerator_as_far_as_they_fit(header: ModelHeader) -> None:
    def layers(gpu_gib: float, gpu_layers: int | None = None) -> int:
        return planned(header, 16, LoadOptions(gpu_layers=gpu_layers), gpu_gib).plan.gpu_layers

    assert layers(24) == 29
    assert 0 < layers(4) < 29
    assert layers(24, gpu_layers=0) == 0
    assert layers(0.2) == 0


def test_layers_that_stay_off_the_accelerator_need_memory_of_their_own(header: ModelHeader) -> None:
    def here(layers: int, free_gib: float, ctx: int | None = None) -> PlannedModel:
        return planned(header, free_gib, LoadOptions(ctx=ctx, gpu_layers=layers), gpu_gib=24)

    assert here(-1, 2).plan.n_ctx == 32768
    for layers in (0, 7):
        with pytest.raises(CannotLoad, match="needs"):
            here(layers, 3)
        with pytest.raises(CannotLoad, match="needs"):
            here(layers, 3, ctx=8192)
    assert here(0, 6.4).plan.n_ctx == planned(header, 6.4).plan.n_ctx
    assert planned(header, 6.4).plan.n_ctx < here(7, 6.4).plan.n_ctx
    some = here(14, 3.4).plan  # half of it in RAM, and a window that leaves others room
    assert 8192 <= some.n_ctx <= 32768 and (some.gpu_layers, some.kv_type) == (14, "q8_0")
    assert here(28, 2).plan.n_ctx == here(99, 2).plan.n_ctx == 32768


def test_a_refusal_counts_what_the_layers_asked_for_leave(header: ModelHeader) -> None:
    with pytest.raises(CannotLoad, match=r"needs 5\.1\d GB .* 3\.22 GB"):
        planned(header, 3, LoadOptions(gpu_layers=0), gpu_gib=24)
    with pytest.raises(CannotLoad, match=r"needs 5\.1\d GB .* 4\.29 GB"):  # a quarter of them is on the GPU
        planned(header, 3, LoadOptions(gpu_layers=7), gpu_gib=24)


PEERS = ("10.0.0.2:50052", "10.0.0.3:50052")


def with_peers(
    header: ModelHeader,
    *devices: Device,
    options: LoadOptions | None = None,
    gpu_layers: int = -1,
    allowed: bool = True,
    drafts: Sequence[LocalModel] = (),
) -> PlannedModel:
    """Plan on a machine of 16 GiB without a GPU of its own; `devices` are those of connected peers and its GPUs."""
    far = tuple(PeerMemory(device.peer, device.memory_free, device.memory_total) for device in devices if device.peer)
    own = sum(device.memory_free for device in devices if not device.peer)
    planner = LoadPlanner(
        resources=Resources(16 * GIB, 16 * GIB, gpu_available=own, peers=far),
        devices=devices,
        cores=8,
        settings=ModelSettings(rpc=PEERS, gpu_layers=gpu_layers),
        allowed_peers=PEERS if allowed else (),
        sampling=Sampling(),
        catalogue=catalogue.load(),
        draft_models=lambda wanted: drafts,
    )
    return planner.plan(header, identity="x", reference="72b", name="72b", options=options or LoadOptions())


def far(number: int, gib: int) -> Device:
    return Device(f"RPC{number}", PEERS[number], memory_free=gib * GIB, memory_total=gib * GIB, peer=PEERS[number])


@pytest.fixture(scope="module")
def large(header: ModelHeader) -> ModelHeader:
    """Return a header of 72B's shape with 44 GiB of weights."""
    return structs.replace(header, layers=80, width=8192, heads=64, kv_heads=8, file_size=44 * GIB)


def test_peers_are_wanted_only_where_the_machine_has_no_room(header: ModelHeader, large: ModelHeader) -> None:
    assert with_peers(header).peers == ()
    assert with_peers(large).peers == PEERS
    assert with_peers(header, gpu_layers=20).peers == PEERS  # the machine has no GPU for them
    for options in (LoadOptions(with_peers=False), LoadOptions(gpu_layers=0)):
        with pytest.raises(CannotLoad, match="needs"):
            with_peers(large, options=options)


def test_layers_are_spread_over_connected_peers(large: ModelHeader) -> None:
    made = with_peers(large, far(0, 32), far(1, 48))
    assert (made.peers, made.plan.peers) == ((), PEERS)
    first, second = made.plan.split or ()
    assert (first.device, second.device) == ("RPC0", "RPC1")
    assert made.plan.spread_identity == "rpc://10.0.0.2:50052,10.0.0.3:50052#x"
    assert second.layers > first.layers > 0 and first.layers + second.layers == made.plan.gpu_layers == 62


def test_a_peer_that_is_not_needed_gets_no_layers(header: ModelHeader, large: ModelHeader) -> None:
    assert with_peers(large, far(0, 8), far(1, 128)).plan.peers == PEERS[1:]
    alone = with_peers(header, far(0, 8), far(1, 128)).plan
    assert (alone.peers, alone.split, alone.spread_identity) == ((), (), "x")


def test_the_gpus_here_come_last_and_get_the_output_matrix(large: ModelHeader) -> None:
    cards = [Device(f"CUDA{n}", "card", memory_free=12 * GIB, memory_total=12 * GIB) for n in range(2)]
    plan = with_peers(large, *cards, far(0, 64)).plan
    assert [share.device for share in plan.split or ()] == ["RPC0", "CUDA0", "CUDA1"]
    peer, *own = (share.layers for share in plan.split or ())
    assert own[0] == own[1] > 12 and peer + sum(own) == plan.gpu_layers


def test_offline_no_peer_elsewhere_is_used(header: ModelHeader, large: ModelHeader) -> None:
    with pytest.raises(RemoteError, match=r"10\.0\.0\.2:50052"):
        with_peers(large, allowed=False)
    assert with_peers(header, allowed=False).peers == ()


def small(header: ModelHeader, name: str = "0.5b", *, mib: int = 380, **facts: Any) -> LocalModel:
    """Return a model of 0.5B's shape on this machine, of no family."""
    shaped = structs.replace(header, path=header.path.with_name(name), layers=24, width=896, heads=14, kv_heads=2)
    shaped = structs.replace(shaped, key_length=64, value_length=64, file_size=mib << 20, active_bytes=mib << 20)
    file = FoundFile(shaped.path, "file", name)
    found = structs.replace(shaped, **facts)
    return LocalModel(file, name, header=found, context=None, published=None, problem="")


@pytest.fixture
def large_one(header: ModelHeader) -> ModelHeader:
    return structs.replace(header, active_bytes=4_370_000_000)


def test_a_much_smaller_model_of_the_same_kind_drafts(large_one: ModelHeader) -> None:
    fits, larger = small(large_one), small(large_one, "larger", mib=410)
    made = planned(large_one, 32, drafts=[larger, fits])
    assert made.plan.draft and made.plan.draft.path.endswith(b"/0.5b") and made.plan.draft.gpu_layers == 0
    assert made.memory - planned(large_one, 32).memory > 380 << 20 and not made.warnings
    assert not planned(large_one, 32).plan.draft
    padded = large_one.vocab_size + 128
    assert planned(structs.replace(large_one, vocab_size=padded), 32, drafts=[fits]).plan.draft
    others = [
        small(large_one, mib=430),
        small(large_one, architecture="llama"),
        small(large_one, tokenizer="llama"),
        small(large_one, vocab_size=large_one.vocab_size + 129),
        small(large_one, chat_template=""),
        small(large_one, large_one.path.name),
    ]
    assert not planned(large_one, 32, drafts=others).plan.draft
    mixed = structs.replace(large_one, architecture="qwen2moe")
    assert planned(mixed, 32, drafts=[small(large_one, architecture="qwen2")]).plan.draft


def test_a_draft_model_of_another_family_is_only_used_by_name(large_one: ModelHeader) -> None:
    seven = structs.replace(large_one, name="Qwen2 7B Instruct")
    known = catalogue.load().by_file_name("qwen2-0_5b-instruct-q4_k_m.gguf")
    assert known and not planned(seven, 32, drafts=[small(large_one)]).plan.draft
    assert planned(seven, 32, drafts=[replace(small(large_one), published=known)]).plan.draft
    assert planned(seven, 32, LoadOptions(draft="0.5b"), drafts=[small(large_one)]).plan.draft
    assert planned(seven, 32, settings=ModelSettings(draft="0.5b"), drafts=[small(large_one, mib=900)]).plan.draft


def test_settings_and_options_turn_drafts_off(large_one: ModelHeader) -> None:
    drafts = [small(large_one)]
    assert not planned(large_one, 32, LoadOptions(draft="off"), drafts=drafts).plan.draft
    assert not planned(large_one, 32, settings=ModelSettings(draft="off"), drafts=drafts).plan.draft
    assert planned(
        large_one, 32, LoadOptions(draft="auto"), settings=ModelSettings(draft="off"), drafts=drafts
    ).plan.draft


def test_a_draft_model_is_where_all_of_the_model_is_and_only_if_both_fit(large_one: ModelHeader) -> None:
    drafts = [small(large_one)]
    assert (on_gpu := planned(large_one, 32, gpu_gib=24, drafts=drafts).plan.draft) and on_gpu.gpu_layers == 25
    whole = planned(large_one, 32, gpu_gib=7.3, drafts=drafts).plan
    assert whole.gpu_layers == 29 and not whole.draft
    partly = planned(large_one, 32, gpu_gib=4, drafts=drafts).plan
    assert 0 < partly.gpu_layers < 28 and partly.draft and partly.draft.gpu_layers == 0
    both, alone = planned(large_one, 10, drafts=drafts), planned(large_one, 8.5, drafts=drafts)
    assert both.plan.draft and not alone.plan.draft
    assert (both.plan.n_ctx, alone.plan.n_ctx) == (32768, 32768) and not alone.warnings
    named = planned(large_one, 8.5, LoadOptions(draft="0.5b"), drafts=drafts)
    assert named.warnings == ("No draft model is used. There is not enough memory for both models.",)
    missing = planned(large_one, 32, LoadOptions(draft="1b"), drafts=drafts)
    assert missing.warnings == ("No draft model is used. There is no model 1b.",) and not missing.plan.draft


def test_no_draft_model_beside_peers(large: ModelHeader, large_one: ModelHeader) -> None:
    made = with_peers(structs.replace(large, active_bytes=40 * GIB), far(0, 32), far(1, 48), drafts=[small(large_one)])
    assert made.plan.peers and not made.plan.draft
