"""The limits of control groups are found where a process is, and wherever one around it is tighter."""

from pathlib import Path

import pytest

from qwenchat.engines.local.devices import ControlGroups

MIB = 1 << 20


def groups(folder: Path, own: str, files: dict[str, str]) -> ControlGroups:
    """Write a tree of groups and what the system says of the process's own."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        file = folder / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return ControlGroups(folder / "own", folder / "mount")


def test_a_limit_of_the_process_s_own_group(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "0::/user.slice/run-ü.scope\n",
        {
            "user.slice/run-ü.scope/memory.max": str(500 * MIB),
            "user.slice/run-ü.scope/memory.current": str(90 * MIB),
            "user.slice/run-ü.scope/memory.stat": f"anon {50 * MIB}\ninactive_file {30 * MIB}",
            "user.slice/run-ü.scope/cpu.max": "150000 100000",
            "user.slice/memory.max": "max",
            "user.slice/memory.current": str(900 * MIB),
            "user.slice/cpu.max": "max 100000",
            "other.slice/memory.max": str(MIB),
            "other.slice/memory.current": "0",
            "other.slice/cpu.max": "1000 100000",
        },
    )
    assert found.memory() == [(500 * MIB, 60 * MIB)]
    assert found.cores() == 1.5


def test_the_tightest_group_around_it_counts(tmp_path: Path) -> None:
    files = {
        "a/b/memory.max": str(800 * MIB),
        "a/b/memory.current": str(10 * MIB),
        "a/b/cpu.max": "400000 100000",
        "a/memory.max": str(300 * MIB),
        "a/memory.current": str(200 * MIB),
        "a/cpu.max": "250000 100000",
        "cpu.max": "800000 100000",
    }
    found = groups(tmp_path, "0::/a/b\n", files)
    assert sorted(found.memory()) == [(300 * MIB, 200 * MIB), (800 * MIB, 10 * MIB)]
    assert found.cores() == 2.5


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    own = "12:memory:/job/step\n5:cpu,cpuacct:/job\n3:pids:/elsewhere\n1:name=systemd:/job\n0::/\n"
    files = {
        "memory/job/step/memory.limit_in_bytes": "9223372036854771712",
        "memory/job/step/memory.usage_in_bytes": "4096",
        "memory/job/memory.limit_in_bytes": str(64 * MIB),
        "memory/job/memory.usage_in_bytes": str(40 * MIB),
        "memory/job/memory.stat": f"inactive_file 0\ntotal_inactive_file {8 * MIB}",
        "cpu/job/cpu.cfs_quota_us": "50000",
        "cpu/job/cpu.cfs_period_us": "100000",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "cpu/elsewhere/cpu.cfs_quota_us": "1000",
        "cpu/elsewhere/cpu.cfs_period_us": "100000",
    }
    found = groups(tmp_path, own, files)
    assert found.memory() == [(64 * MIB, 32 * MIB)]
    assert found.cores() == 0.5


@pytest.mark.parametrize("own", ["0::/docker/0123\n", "0::/../../system.slice\n", "0::/\n", ""])
def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path, own: str) -> None:
    files = {"memory.max": str(MIB), "memory.current": "0", "cpu.max": "200000 100000"}
    found = groups(tmp_path, own, files)
    assert (found.memory(), found.cores()) == ([(MIB, 0)], 2.0)


def test_no_groups_at_all(tmp_path: Path) -> None:
    found = ControlGroups(tmp_path / "own", tmp_path / "mount")
    assert (found.memory(), found.cores()) == ([], None)
