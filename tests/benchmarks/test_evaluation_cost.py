from benchmarks.evaluation_cost import Cost, costs, row_of


def test_a_row_by_hand():
    line = row_of(
        "candidate", Cost(core_seconds=3.0, peak_mebibytes=36.4), Cost(core_seconds=12.0, peak_mebibytes=50.0)
    )
    assert line == "| candidate | 3.0 | 0.25 | 36 |"


def test_a_peak_counts_from_what_was_held_already():
    held: list[bytearray] = []
    costs(lambda: held.append(bytearray(64 * 2**20)))  # the peak is that of the whole process, which never falls
    held.clear()
    assert costs(lambda: None).peak_mebibytes < 8.0
