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
@pytest.mark.parametrize("options", [{}, {"folds": True}, {"folds": True, "transposed": True}], ids=str)
def test_a_tile_fits_into_the_registers_and_is_no_larger_than_the_result(options, registers):
    folds = set()
    for rows in (1, 2, 3, 7, 8, 100):
        for columns in (1, 2, 16, 17, 18, 20, 50, 56, 100, 144, 800):
            height, width, fold = tiling.tile_shape(rows, columns, 16, registers, **options)
            assert 1 <= height <= rows
            assert 1 <= width <= -(-columns // 16)
            widest = width if fold == 1 else max(width, (columns // 16 - 1) % width + 2)
            assert height * widest + (widest if height > 1 else 1) + 1 <= registers
            if fold > 1:
                assert columns % 16 * fold <= 16 < columns
                assert height % (fold if "transposed" in options else 1) == 0
            folds.add(fold)
    assert folds == {1} if not options else folds > {1}
    assert tiling.tile_shape(100, 800, 16, registers, **options) == {16: (6, 2, 1), 32: (5, 3, 1)}[registers]


def test_a_quarter_of_a_vector_is_folded():
    shapes = [tiling.tile_shape(200, 100, 16, 32, folds=True, transposed=transposed) for transposed in (False, True)]
    assert shapes == [(8, 2, 4), (8, 2, 4)]
    with_few_rows, with_few_terms, apart, folded = (
        tiling.tiling(rows, inner, 100, 16, 4, transposed=False, scattered=False, contiguous=contiguous).fold
        for rows, inner, contiguous in ((8, 784, True), (200, 31, True), (200, 784, False), (200, 784, True))
    )
    assert (with_few_rows, with_few_terms, apart) == (1, 1, 1)
    assert folded == (4 if tiling.vector_registers() == 32 else 1)


def test_threads_share_what_leaves_the_smaller_operand_to_all():
    assert not tiling.is_shared_by_rows(32, 128, 8, 32)  # each thread would read all of the weights
    assert tiling.is_shared_by_rows(1024, 128, 8, 32)
    assert not tiling.is_shared_by_rows(64, 1000, 4, 64)  # 16 blocks of columns, the last one shorter
    assert tiling.is_shared_by_rows(96, 100, 4, 64)  # two blocks of columns, of 64 and 36


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
