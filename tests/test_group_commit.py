"""Group commit: entries of one moment are written together, and each caller learns what became of its own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apikeys.group_commit import GroupAbortedError, GroupCommit


class Log:
    """Remembers the groups that were written; doubles each entry."""

    def __init__(self, seconds=0.0, fail=lambda group: False):
        self.groups, self.seconds, self.fail = [], seconds, fail
        self.at_once = 0

    def write(self, group):
        self.at_once += 1
        assert self.at_once == 1, "two groups are written at the same time"
        time.sleep(self.seconds)
        self.groups.append(list(group))
        self.at_once -= 1
        if self.fail(group):
            raise OSError("disk full")
        return [entry * 2 for entry in group]


def test_a_lonely_entry_is_written_at_once_and_alone():
    log = Log()
    commits = GroupCommit(log.write)
    assert [commits.submit(1), commits.submit(2)] == [2, 4]
    assert log.groups == [[1], [2]]


def test_what_comes_while_a_write_is_under_way_is_one_group():
    log = Log(seconds=0.2)
    commits = GroupCommit(log.write)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(commits.submit, 0)
        time.sleep(0.05)
        others = [pool.submit(commits.submit, number) for number in range(1, 8)]
        assert first.result() == 0
        assert [other.result() for other in others] == [number * 2 for number in range(1, 8)]
    assert log.groups[0] == [0]
    assert sorted(log.groups[1]) == list(range(1, 8))
    assert len(log.groups) == 2


def test_under_load_every_entry_is_written_once_and_answered_with_its_own_result():
    log = Log(seconds=0.0005)
    commits = GroupCommit(log.write)

    def run(thread):
        return [commits.submit(thread * 1000 + number) for number in range(200)]

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(run, range(12)))
    for thread, found in enumerate(results):
        assert found == [(thread * 1000 + number) * 2 for number in range(200)]
    written = [entry for group in log.groups for entry in group]
    assert len(written) == len(set(written)) == 2400
    assert len(log.groups) < 2400


def test_a_failure_reaches_each_of_its_group_and_nobody_else():
    log = Log(seconds=0.1, fail=lambda group: 3 in group)
    commits = GroupCommit(log.write)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(commits.submit, 1)
        time.sleep(0.03)
        others = [pool.submit(commits.submit, number) for number in (2, 3)]
        assert first.result() == 2
        for other in others:
            with pytest.raises(OSError, match="disk full"):
                other.result()
    assert commits.submit(5) == 10


def test_a_leader_that_is_stopped_leaves_nobody_waiting():
    started = threading.Event()

    def write(group):
        started.set()
        time.sleep(0.1)
        if 0 in group:
            raise KeyboardInterrupt
        return group

    commits = GroupCommit(write)
    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(commits.submit, 0)
        started.wait()
        follower = pool.submit(commits.submit, 1)
        with pytest.raises(KeyboardInterrupt):
            leader.result()
        assert follower.result(timeout=5) == 1


def test_the_group_of_a_stopped_leader_is_told_so():
    in_group, go = threading.Event(), threading.Event()

    def write(group):
        if 0 in group:
            in_group.set()
            go.wait()
        if len(group) > 1:
            raise SystemExit
        return group

    commits = GroupCommit(write)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(commits.submit, 0)
        in_group.wait()
        others = [pool.submit(commits.submit, number) for number in (1, 2)]
        time.sleep(0.1)
        go.set()
        assert first.result() == 0
        errors = [type(other.exception(timeout=5)) for other in others]
    assert sorted(error.__name__ for error in errors) == [GroupAbortedError.__name__, "SystemExit"]


def test_two_lanes_write_two_groups_at_the_same_time_and_never_three():
    at_once, most, mutex = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=10)

    def write(group):
        nonlocal at_once, most
        with mutex:
            at_once += 1
            most = max(most, at_once)
        if {1, 2} & set(group):
            both.wait()
        time.sleep(0.002)
        with mutex:
            at_once -= 1
        return group

    commits = GroupCommit(write, lanes=2)
    with ThreadPoolExecutor(12) as pool:
        # Each waits for the other: they end only when both are written at once.
        assert list(pool.map(commits.submit, [1, 2])) == [1, 2]
        assert list(pool.map(commits.submit, range(3, 300))) == list(range(3, 300))
    assert most == 2
