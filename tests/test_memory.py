from evomerge.memory import SHARING, available_memory, sharing


def test_the_memory_of_this_machine_is_known(monkeypatch):
    whole = available_memory()
    assert 1 << 20 < whole < 1 << 50
    monkeypatch.setenv(SHARING, "4")
    assert sharing() == 4
    assert 0.1 * whole < available_memory() < 0.5 * whole  # a quarter, of what others leave meanwhile
