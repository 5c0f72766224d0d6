"""The choices for matrix products, without any machine code: the tiles, the blocks, and what is known of the caches."""

import pytest

from nissl.engines.native import machine, tiling


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (b"1024K\n", 1 << 20),
        (b"512K", 1 << 19),
        (b"65536K\n", 1 << 26),
        (None, machine.USUAL_L2),
        (b"", machine.USUAL_L2),
        (b"0K", machine.USUAL_L2),
        (b"-1K", machine.USUAL_L2),
        (b"99999999K", machine.USUAL_L2),
        (b"2M", machine.USUAL_L2),
        (b"\xff\xfe1K", machine.USUAL_L2),
    ],
)
def test_the_size_of_the_cache_is_what_the_system_says_if_that_can_be(size, expected, tmp_path, monkeypatch):
    for number, level in enumerate("1123"):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "level").write_text(f"{level}\n")
        (tmp_path / f"index{number}" / "size").write_bytes(b"32K\n" if level != "2" else size or b"")
    if size is None:
        (tmp_path / "index2" / "size").unlink()
    monkeypatch.setattr(machine, "CACHES", tmp_path)
    assert machine.second_level_cache_bytes.__wrapped__() == expected


@pytest.mark.parametrize("registers", [16, 32])
@pytest.mark.parametrize("cache", [1, 100, 1 << 16, 1 << 20, 1 << 40])
def test_blocks_have_a_length_whatever_the_cache(cache, registers, monkeypatch):
    monkeypatch.setattr(tiling, "second_level_cache_bytes", lambda: cache)
    monkeypatch.setattr(tiling, "vector_registers", lambda: registers)
    for rows, inner, columns in [(300, 700, 700), (1, 5, 100_000), (1009, 1, 3), (64, 100_000, 64)]:
        for lanes in (4, 8, 16):
            for scattered in (False, True):
                k_block = tiling.tiling(rows, inner, columns, lanes, 4, transposed=True, scattered=scattered).k_block
                assert 1 <= k_block <= inner
