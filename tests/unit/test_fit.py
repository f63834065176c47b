"""Memory and speed are predicted before anything is loaded, and the best model for a machine is named."""

import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.models import catalogue
from qwenchat.models.catalogue import QWEN2, PublishedModel
from qwenchat.models.fit import (
    DISK_RESERVE,
    KV_BYTES,
    PeerMemory,
    Resources,
    Verdict,
    assess,
    choose,
    disk_missing,
    largest_context,
    memory_needed,
    plan,
)
from qwenchat.models.gguf import ModelHeader, read_header
from qwenchat.models.measured import Measurements, ModelSpeed
from qwenchat.models.recommendation import advice, assess_catalogue, free_words, reason, recommended
from tests.fakes.ggufs import write_model

CATALOG = catalogue.load()

GIB = 1 << 30


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> ModelHeader:
    return read_header(write_model(tmp_path_factory.mktemp("fit") / "m.gguf"))


@pytest.mark.parametrize(
    ("shape", "size", "n_ctx", "gib"),
    [
        ((24, 2, 64), 397_805_248, 4096, 0.71),
        ((28, 2, 128), 986_045_824, 32768, 1.69),
        ((28, 4, 128), 4_683_071_264, 131072, 8.4),
        ((80, 8, 128), 47_415_712_640, 4096, 45.1),
    ],
)
def test_the_sizes_of_the_family(
    header: ModelHeader, shape: tuple[int, int, int], size: int, n_ctx: int, gib: float
) -> None:
    layers, kv_heads, head = shape
    shaped = replace(header, layers=layers, kv_heads=kv_heads, key_length=head, value_length=head, file_size=size)
    assert memory_needed(shaped, n_ctx, KV_BYTES["q8_0"]).total / GIB == pytest.approx(gib, rel=0.02)


def test_the_largest_context_just_fits(header: ModelHeader) -> None:
    available = memory_needed(header, 10_000, 2.0).total
    n_ctx = largest_context(header, available, 2.0, 32_768)
    assert n_ctx == 9_984
    assert memory_needed(header, n_ctx, 2.0).total <= available < memory_needed(header, n_ctx + 256, 2.0).total
    assert largest_context(header, 100 * GIB, 2.0, 32_768) == 32_768
    assert largest_context(header, header.file_size, 2.0, 32_768) == 0


def published(reference: str) -> PublishedModel:
    size, label = reference.split(":")
    model = CATALOG.get(size)
    quant = model and model.quantisation(label)
    assert model and quant
    return PublishedModel(model, quant)


def test_memory_of_a_graphics_card_is_named_where_there_is_one() -> None:
    assert "GPU" not in free_words(machine(16)) and "GPU" in free_words(machine(16, gpu=8))


def machine(ram: float, gpu: float = 0, bandwidth: float = 40e9) -> Resources:
    return Resources(round(ram * GIB), round(ram * GIB), round(gpu * GIB), 1000 * GIB, bandwidth)


@pytest.mark.parametrize(
    ("reference", "here", "verdict", "n_ctx", "kv_type"),
    [
        ("7b:q4_k_m", machine(12), Verdict.COMFORTABLE, 32_768, "f16"),
        ("7b:q4_k_m", machine(7.2), Verdict.COMFORTABLE, 32_768, "q8_0"),
        ("7b:q4_k_m", machine(6.5), Verdict.COMFORTABLE, 18_432, "q8_0"),
        ("7b:q4_k_m", machine(5), Verdict.TIGHT, 4096, "q8_0"),
        ("7b:q4_k_m", machine(4), Verdict.TOO_LARGE, 4096, "q8_0"),
        ("7b:q4_k_m", machine(4, gpu=8), Verdict.COMFORTABLE, 32_768, "f16"),
        ("7b:q4_k_m", machine(12, gpu=4), Verdict.PARTLY_ON_GPU, 32_768, "f16"),
        ("72b:q4_k_m", machine(16, gpu=24), Verdict.TOO_LARGE, 4096, "q8_0"),
    ],
)
def test_verdicts(reference: str, here: Resources, verdict: Verdict, n_ctx: int, kv_type: str) -> None:
    fit = plan(published(reference), here)
    assert (fit.verdict, fit.n_ctx, fit.kv_type) == (verdict, n_ctx, kv_type)


def test_layers_on_an_accelerator() -> None:
    model = published("7b:q4_k_m")
    assert assess(model, machine(16, gpu=8), 4096, "f16").gpu_layers == 28
    partly = assess(model, machine(16, gpu=3), 4096, "f16")
    assert 10 < partly.gpu_layers < 20
    assert assess(model, machine(16), 4096, "f16").gpu_layers == 0


def test_an_accelerator_that_shares_the_ram_gets_all_layers_and_adds_no_memory() -> None:
    model = published("7b:q4_k_m")
    shared = replace(machine(16), gpu_of_ram=12 * GIB)
    alone, helped = (assess(model, here, 4096, "f16") for here in (machine(16), shared))
    assert (helped.gpu_layers, alone.gpu_layers) == (28, 0)
    assert replace(helped, gpu_layers=0) == alone
    assert 0 < assess(model, replace(shared, gpu_of_ram=3 * GIB), 4096, "f16").gpu_layers < 28
    assert assess(model, replace(machine(4), gpu_of_ram=12 * GIB), 4096, "f16").verdict is Verdict.TOO_LARGE


def test_speed_follows_the_active_weights() -> None:
    slow, mixture = published("72b:q4_k_m"), published("57b-a14b:q4_k_m")
    here = machine(128)
    by_weight = assess(slow, here, 4096, "f16").decode_tps
    active = assess(mixture, here, 4096, "f16").decode_tps
    assert by_weight and active
    assert by_weight == pytest.approx(0.5 * 40e9 / slow.active_bytes)
    assert active > 5 * by_weight
    assert assess(slow, machine(128, bandwidth=0), 4096, "f16").decode_tps is None
    assert assess(published("7b:q4_k_m"), machine(16, gpu=16), 4096, "f16").decode_tps is None
    half = assess(published("7b:q8_0"), machine(16, gpu=5), 4096, "f16").decode_tps
    whole = assess(published("7b:q8_0"), machine(16), 4096, "f16").decode_tps
    assert half and whole and half > 1.5 * whole


def test_the_default_quantisation() -> None:
    model = CATALOG.get("7b")
    assert model
    offered = [PublishedModel(model, quant) for quant in model.offered]

    def chosen(here: Resources) -> str | None:
        taken = choose(offered, here)
        return taken.quant.label if taken else None

    assert chosen(machine(32)) == "q8_0"
    assert chosen(machine(8)) == "q6_k"
    assert chosen(machine(3.5)) == "q2_k"
    assert chosen(machine(2)) is None


def test_room_on_the_disk() -> None:
    assert disk_missing(4 * GIB, 5 * GIB) == 0
    assert disk_missing(5 * GIB, 5 * GIB) == DISK_RESERVE


def best_of(here: Resources, family: str = QWEN2) -> str:
    best = recommended(assess_catalogue(CATALOG, here, {}, family=family))
    return best.reference if best else ""


@pytest.mark.parametrize(
    ("ram", "gpu", "bandwidth", "reference"),
    [
        (2, 0, 30e9, "0.5b:q4_k_m"),
        (4, 0, 30e9, "1.5b:q4_k_m"),
        (8, 0, 60e9, "1.5b:q4_k_m"),
        (16, 0, 60e9, "7b:q4_k_m"),
        (32, 0, 30e9, "7b:q4_k_m"),
        (32, 0, 0, "7b:q4_k_m"),  # not measured yet
        (16, 0, 20e9, "1.5b:q4_k_m"),  # 7b would be slow, in every quantisation
        (40, 0, 250e9, "7b:q8_0"),  # fits with ease
        (64, 0, 80e9, "57b-a14b:q4_k_m"),
        (128, 0, 400e9, "72b:q4_k_m"),
        (16, 24, 60e9, "7b:q8_0"),
        (16, 0, 1e9, "0.5b:q4_k_m"),  # all are slow
    ],
)
def test_the_largest_model_that_runs_well_is_recommended(
    ram: float, gpu: float, bandwidth: float, reference: str
) -> None:
    rows = assess_catalogue(CATALOG, machine(ram, gpu, bandwidth=bandwidth), {})
    assert best_of(machine(ram, gpu, bandwidth=bandwidth)) == reference
    assert len(rows) == 44 and not rows[-1].suits


@pytest.mark.parametrize(
    ("family", "references"),
    [
        ("qwen2.5", ["1.5b:q4_k_m", "3b:q4_k_m", "7b:q4_k_m", "32b:q4_0", "72b:q4_k_m"]),
        ("qwen2.5-1m", ["", "", "7b:q4_k_m", "14b:q4_k_m", "14b:q8_0"]),
        ("coder", ["1.5b:q4_k_m", "3b:q4_k_m", "7b:q4_k_m", "32b:q4_0", "32b:q4_k_m"]),
        ("math", ["1.5b:q4_k_m", "1.5b:q4_k_m", "7b:q4_k_m", "7b:q4_k_m", "72b:q4_k_m"]),
        ("qwen2-math", ["1.5b:q4_k_m", "1.5b:q4_k_m", "7b:q4_k_m", "7b:q4_k_m", "72b:q4_k_m"]),
        ("qwq", ["", "", "", "32b:q4_k_m", "32b:q4_k_m"]),
        ("r1", ["1.5b:q4_k_m", "1.5b:q4_k_m", "7b:q4_k_m", "14b:q4_k_m", "32b:q4_k_m"]),
        ("coder-base", ["0.5b:q8_0", "1.5b:q8_0", "3b:q8_0", "14b:q8_0", "14b:q8_0"]),
    ],
)
def test_each_family_has_its_own_recommendation(family: str, references: list[str]) -> None:
    machines = [(3, 40e9), (6, 60e9), (16, 60e9), (32, 100e9), (128, 400e9)]
    found = [best_of(machine(ram, bandwidth=bandwidth), family) for ram, bandwidth in machines]
    assert found == [f"{family}-{reference}" if reference else "" for reference in references]


@pytest.mark.parametrize("family", [family.name for family in CATALOG.families])
def test_the_rows_of_a_family_are_its_own_and_best_first(family: str) -> None:
    rows = assess_catalogue(CATALOG, machine(32), {}, family=family)
    assert {row.published.model.family for row in rows if row.published} == {family}
    assert len(rows) == sum(len(model.quantisations) for model in CATALOG.of(family))
    assert [row.suits for row in rows] == sorted((row.suits for row in rows), reverse=True)
    for row in rows:
        published = row.published
        assert published and row.reference == published.reference
        longest = max(published.model.context, published.model.yarn_context)
        assert row.fit.n_ctx <= min(longest, 32_768)


def test_the_recommendation_is_the_same_from_one_minute_to_the_next() -> None:
    """Neither what is free at this moment nor the noise of a measurement changes it, except at the border of a size."""
    unsteady = 0
    grid = [
        (ram, bandwidth)
        for ram in (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
        for bandwidth in (15e9, 30e9, 60e9, 120e9, 400e9)
    ]
    for ram, bandwidth in grid:
        found = {
            best_of(
                replace(
                    machine(ram, bandwidth=bandwidth * noise),
                    ram_available=round(max(0.2, ram * 0.6 + free) * GIB),
                )
            )
            for noise in (0.7, 1, 1.3)
            for free in (-2, 2)
        }
        assert all(found) and not any(name.partition(":")[2].startswith(("q2", "q3")) for name in found)
        assert len(found) <= 2
        if len(found) == 2:  # the larger one is about as slow as is still endured, or as quick as it must be
            unsteady += 1
            rows = assess_catalogue(CATALOG, machine(ram, bandwidth=bandwidth), {})
            larger = min((row for row in rows if row.reference in found), key=lambda row: row.usual.decode_tps or 0)
            border = 10.0 if larger.reference.endswith("q8_0") else 2.5
            assert larger.decode_tps and 0.7 < border / larger.decode_tps < 1.31
    assert unsteady / len(grid) < 0.2


def test_with_much_memory_free_no_small_model_is_recommended() -> None:
    for bandwidth in (0, 25e9, 35e9, 45e9):
        assert best_of(replace(machine(32, bandwidth=bandwidth), ram_available=24 * GIB)) == "7b:q4_k_m"


def test_a_recommendation_is_explained_in_one_sentence() -> None:
    rows = assess_catalogue(CATALOG, machine(16, bandwidth=60e9), {})
    assert advice(rows[0]) == "It is the largest that runs well on this computer."
    assert "6.9 tokens" in reason(rows[0]) and "estimate" in reason(rows[0]) and "32,768" in reason(rows[0])
    full = assess_catalogue(CATALOG, replace(machine(16, bandwidth=60e9), ram_available=2 * GIB), {})
    assert full[0].reference == rows[0].reference and "close other programs" in advice(full[0])
    assert "fastest" in advice(assess_catalogue(CATALOG, machine(16, bandwidth=1e9), {})[0])


@pytest.mark.parametrize(
    ("reference", "asked", "n_ctx"),
    [
        ("1.5b:q4_k_m", 131_072, 32_768),
        ("7b:q4_k_m", 1_000_000, 131_072),
        ("57b-a14b:q4_k_m", 131_072, 65_536),
        ("7b:q4_k_m", 4096, 4096),
        ("math-7b:q4_k_m", 32_768, 4096),
        ("coder-3b:q4_k_m", 131_072, 32_768),
        ("r1-7b:q4_k_m", 1_000_000, 131_072),
        ("qwen2.5-1m-7b:q4_k_m", 1_000_000, 1_000_000),
    ],
)
def test_advice_promises_no_window_that_the_model_can_not_have(reference: str, asked: int, n_ctx: int) -> None:
    family = published(reference).model.family
    rows = {row.reference: row for row in assess_catalogue(CATALOG, machine(500), {}, family=family, limit=asked)}
    assert rows[reference].fit.n_ctx == n_ctx


def test_advice_heeds_measured_speed_disk_and_what_is_here() -> None:
    here = {"7b:q8_0": (Path("/m.gguf"), ModelSpeed(decode_tps=9.0)), "72b:q2_k": (Path("/n.gguf"), None)}
    cramped = replace(machine(24, bandwidth=60e9), disk_free=2 * GIB)
    best = recommended(assess_catalogue(CATALOG, cramped, here))
    assert best and best.reference == "7b:q8_0" and best.is_measured and "9.0 tokens" in reason(best)
    assert not best.disk_missing
    rows = {row.reference: row for row in assess_catalogue(CATALOG, cramped, here)}
    assert rows["7b:q4_k_m"].disk_missing and not rows["7b:q4_k_m"].can_run
    assert not rows["72b:q2_k"].disk_missing and rows["72b:q2_k"].fit.verdict is Verdict.TOO_LARGE
    assert recommended(assess_catalogue(CATALOG, machine(0.5), {})) is None


def test_speeds_are_saved_and_averaged(tmp_path: Path) -> None:
    measured = Measurements(tmp_path / "data" / "measured.json")
    assert measured.speed("a") is None
    measured.record("a", decode_tps=10.0)
    measured.record("a", prefill_tps=100.0, decode_tps=20.0)
    assert Measurements(tmp_path / "data" / "measured.json").speed("a") == ModelSpeed(100.0, 13.0)
    first = measured.bandwidth(1, GIB)
    assert first > 1e8 and measured.speed("a")
    again = measured.bandwidth(1, GIB)
    assert again == first or again > 1.4 * first
    for damaged in (b"{", b'{"build": "\xff"}'):
        (tmp_path / "data" / "measured.json").write_bytes(damaged)
        assert measured.speeds() == {}
    Measurements(Path("/proc/nowhere/measured.json")).record("a", decode_tps=1.0)


def test_measuring_uses_only_a_part_of_the_free_memory(tmp_path: Path) -> None:
    measured = Measurements(tmp_path / "measured.json")
    assert measured.bandwidth(64, 4 * GIB) == 0
    assert not (tmp_path / "measured.json").exists()  # it is asked for again when there is more
    available = GIB // 2
    tracemalloc.start()
    assert measured.bandwidth(2, available) > 1e8
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < available * 0.3


def peer(gib: float, *, is_gpu: bool = False, endpoint: str = "10.0.0.2:50052") -> PeerMemory:
    return PeerMemory(endpoint, round((gib - is_gpu) * GIB), round(gib * GIB))


def test_peers_take_what_does_not_fit_here() -> None:
    model, here = published("72b:q4_k_m"), replace(machine(16), peers=(peer(64),))
    alone, spread = plan(model, here.alone), plan(model, here)
    assert (alone.verdict, alone.peer_layers) == (Verdict.TOO_LARGE, ())
    assert (spread.verdict, spread.n_ctx, spread.kv_type) == (Verdict.WITH_PEERS, 32_768, "f16")
    per_layer = (spread.memory.weights + spread.memory.kv) / 80
    compute = spread.memory.compute
    assert spread.peer_layers == (80 - 18,) and 18 * per_layer < 0.8 * 16 * GIB - compute < 19 * per_layer
    assert spread.available == round(16 * GIB) + here.peers[0].usable > spread.memory.total
    assert spread.decode_tps is None  # the peer's speed and the network's are unknown


def test_the_largest_peer_is_filled_first_and_no_more_are_used_than_are_needed() -> None:
    model, here = published("72b:q4_k_m"), machine(24)
    peers = peer(24), peer(48, is_gpu=True, endpoint="10.0.0.3:50052"), peer(24, endpoint="10.0.0.4:50052")
    assert plan(model, replace(here, peers=peers), 8192).peer_layers == (0, 48, 0)
    assert plan(model, replace(here, peers=peers), 32_768).peer_layers == (0, 53, 0)
    small = replace(here, ram_available=4 * GIB, peers=peers)
    first, second, third = plan(model, small, 8192).peer_layers
    assert second > first > 0 == third


def test_the_gpu_here_comes_before_peers() -> None:
    spread = plan(published("72b:q4_k_m"), replace(machine(16, gpu=24), peers=(peer(64),)))
    assert (spread.verdict, spread.gpu_layers, spread.peer_layers) == (Verdict.WITH_PEERS, 31, (31,))


def test_what_fits_here_stays_here() -> None:
    for reference in ("0.5b:q4_k_m", "7b:q4_k_m"):
        model, here = published(reference), machine(7.2)
        assert plan(model, replace(here, peers=(peer(64),))) == plan(model, here)


def test_layers_that_were_asked_for_go_to_peers_even_if_they_would_fit_here() -> None:
    spread = plan(published("0.5b:q4_k_m"), replace(machine(16), peers=(peer(64),)), most_layers=99)
    assert (spread.verdict, spread.gpu_layers, spread.peer_layers) == (Verdict.WITH_PEERS, 0, (24,))


def test_a_peer_without_a_gpu_reports_all_of_its_ram_of_which_others_need_a_part() -> None:
    assert peer(64).usable == round(0.9 * 56 * GIB)
    assert peer(64, is_gpu=True).usable == round(0.9 * 63 * GIB)
    assert peer(8).usable == pytest.approx(0.9 * 0.6 * 8 * GIB, abs=2)


def test_peers_that_are_too_small_do_not_help() -> None:
    spread = plan(published("72b:q4_k_m"), replace(machine(16), peers=(peer(8), peer(1))))
    assert spread.verdict is Verdict.TOO_LARGE and spread.available < spread.memory.total


def test_the_window_with_peers_is_the_largest_that_leaves_room() -> None:
    model, here = published("72b:q4_k_m"), replace(machine(8), peers=(peer(56),))
    spread = plan(model, here)
    assert (spread.verdict, spread.kv_type) == (Verdict.WITH_PEERS, "q8_0") and 8192 <= spread.n_ctx < 32_768
    assert not assess(model, here, spread.n_ctx + 256, "q8_0").is_roomy


def test_choosing_a_quantisation_counts_peers() -> None:
    models = [published(f"72b:{quant}") for quant in ("q2_k", "q4_k_m", "q8_0")]
    assert choose(models, machine(16)) is None
    chosen = choose(models, replace(machine(16), peers=(peer(64),)))
    assert chosen and chosen.reference == "72b:q4_k_m"


def test_a_model_that_needs_peers_is_not_recommended_before_one_that_does_not() -> None:
    rows = assess_catalogue(CATALOG, replace(machine(16), peers=(peer(128),)), {})
    by_reference = {row.reference: index for index, row in enumerate(rows)}
    assert by_reference["7b:q4_k_m"] < by_reference["72b:q4_k_m"]
    row = next(row for row in rows if row.reference == "72b:q4_k_m")
    assert row.suits and "peers" in reason(row) and "peers" in advice(row)
