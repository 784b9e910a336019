"""The log has every line of a search with its time, over several starts; a full disk does not end a search."""

import io
import re

import pytest

from evomerge.search.record import Record
from evomerge.search.watch import Follower, LogFile
from tests.search.test_loop import StoppedError
from tests.search.watch.demo import outline, watched

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")


def test_every_result_is_a_line(tmp_path):
    record = watched(tmp_path, fail={9}, out=io.StringIO())
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert all(STAMP.match(line) for line in lines)
    results = sum(len(trial.scores) for trial in record.trials.values())
    assert len(lines) == 1 + results + 1  # the start, the results, the failure
    assert "start: evomerge" in lines[0]
    assert sum("failed (candidate): made to fail" in line for line in lines) == 1


def test_a_resumed_search_goes_on_in_the_same_log(tmp_path):
    def stop(record):
        if len(record.trials) == 12:
            raise StoppedError

    with pytest.raises(StoppedError):
        watched(tmp_path, out=io.StringIO(), on=stop)
    first = (tmp_path / "log.txt").read_text()
    watched(tmp_path, out=io.StringIO())
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith(first)
    assert "resumed: 11 models were scored before" in text[len(first) :]
    assert text.count("start: evomerge") == 2
    assert len(re.findall(r"base +search ", text)) == 1


def test_a_line_that_cannot_be_written_is_no_end_but_is_said_later(tmp_path):
    log = LogFile(tmp_path / "none" / "log.txt", Follower(outline()))
    log.say("a word")
    with pytest.raises(FileNotFoundError):
        log(Record())


def test_a_message_of_several_lines_is_one_line(tmp_path):
    log = LogFile(tmp_path / "log.txt", Follower(outline()))
    log.say("one\ntwo")
    assert (tmp_path / "log.txt").read_text().splitlines()[1].endswith("  one two")
