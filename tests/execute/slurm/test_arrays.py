"""Grouping into arrays: few of them, and every task waits for exactly the jobs it needs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from suite.execute.slurm.arrays import Array, into_arrays
from suite.jobs.identity import Job
from suite.kinds.registry import parse_spec


def job(number: int, *parents: Job) -> Job:
    optimizer = {"name": "sgd", "base_lr": 0.1, "weight_decay": 0}
    spec = {
        "kind": "finetune", "data": {"name": "cub", "fingerprint": "f", "store_size": 72}, "image_size": 64,
        "seed": number, "init": None, "backbone": {"arch": "resnet10"},
        "train": {"epochs": 1, "batch_size": 2, "optimizer": optimizer, "crop_scale": 0.5, "eval_resize": 1},
    }  # fmt: skip
    return Job(parse_spec(spec), f"job {number}", parents)


def grouped(jobs: Sequence[Job], queued: Sequence[Job] = (), largest: int = 1000) -> list[Array[str]]:
    requests = dict.fromkeys((one.key for one in jobs), "small")
    return into_arrays(jobs, requests, {}, {one.key for one in queued}, largest)


def names(arrays: Sequence[Array[str]]) -> list[list[str]]:
    return [[one.name.removeprefix("job ") for one in array.jobs] for array in arrays]


def test_two_stages_of_many_rows_are_two_arrays() -> None:
    first = [job(i) for i in range(4)]
    second = [job(10 + i, first[i]) for i in range(4)]
    arrays = grouped([*first, *second])
    assert names(arrays) == [["0", "1", "2", "3"], ["10", "11", "12", "13"]]
    assert [array.aftercorr for array in arrays] == [(), (0,)]


def test_children_of_one_job_are_one_array_behind_it() -> None:
    stage1 = job(0)
    second = [job(1 + i, stage1) for i in range(3)]
    arrays = grouped([stage1, *second])
    assert names(arrays) == [["0"], ["1", "2", "3"]]
    assert arrays[1].afterok == (stage1.key,)


def test_trials_of_a_learning_rate_and_what_chooses_among_them() -> None:
    pretrained = [job(0), job(1)]
    trials = [[job(10 * (1 + row) + i, pretrained[row]) for i in range(3)] for row in range(2)]
    chosen = [job(90 + row, pretrained[row], *trials[row]) for row in range(2)]
    arrays = grouped([*pretrained, *trials[0], *trials[1], *chosen])
    assert names(arrays)[0] == ["0", "1"]
    assert sorted(names(arrays)[1:3]) == [["10", "11", "12"], ["20", "21", "22"]]  # fewer than three pairs
    assert names(arrays)[3:] == [["90"], ["91"]]  # what they wait for lies in different arrays at different tasks
    assert arrays[3].afterok == tuple(sorted(one.key for one in (pretrained[0], *trials[0])))


def test_rows_with_something_behind_them_are_apart_from_those_without() -> None:
    alone, heads = [job(i) for i in range(2)], [job(5 + i) for i in range(2)]
    behind = [job(8 + i, heads[i]) for i in range(2)]
    arrays = grouped([*alone, *heads, *behind])
    assert sorted(names(arrays)[:2]) == [["0", "1"], ["5", "6"]]
    assert names(arrays)[0] == ["5", "6"]  # longest path first
    assert names(arrays)[2] == ["8", "9"]
    assert arrays[2].aftercorr == (0,)


def test_other_resources_are_another_array_and_long_arrays_are_cut() -> None:
    jobs = [job(i) for i in range(5)]
    requests = {one.key: "large" if i == 2 else "small" for i, one in enumerate(jobs)}
    assert names(into_arrays(jobs, requests, {})) == [["0", "1", "3", "4"], ["2"]]
    assert names(grouped(jobs, largest=2)) == [["0", "1"], ["2", "3"], ["4"]]


def test_what_slurm_has_already_is_waited_for_and_what_is_done_is_not() -> None:
    queued, done = job(0), job(1)
    waiting, free = job(2, queued), job(3, done)
    arrays = grouped([waiting, free], [queued])
    assert {array.jobs[0].name: array.afterok for array in arrays} == {"job 2": (queued.key,), "job 3": ()}


def test_tasks_correspond_only_where_arrays_are_equally_long() -> None:
    heads, other = [job(i) for i in range(3)], job(5)
    behind = [job(10, heads[0], other), job(11, heads[1]), job(12, heads[2])]
    jobs = [*heads, other, *behind]
    arrays = into_arrays(jobs, {one.key: "large" if one is other else "small" for one in jobs}, {})
    assert names(arrays) == [["0", "1", "2"], ["5"], ["10"], ["11"], ["12"]]
    assert not any(array.aftercorr for array in arrays)


def test_a_job_that_waits_for_an_array_and_for_what_slurm_has_already_waits_for_both() -> None:
    queued, heads = job(9), [job(0), job(1)]
    behind = [job(10 + i, heads[i], queued) for i in range(2)]
    arrays = grouped([*heads, *behind], [queued])
    assert [set(array.afterok) for array in arrays[1:]] == [{heads[0].key, queued.key}, {heads[1].key, queued.key}]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Job], dict[str, str]]:
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, 14))):
        parents = draw(st.lists(st.sampled_from(jobs), max_size=3, unique_by=lambda one: one.key)) if jobs else []
        jobs.append(job(number, *parents))
    return jobs, {one.key: draw(st.sampled_from(["small", "large"])) for one in jobs}


@given(graphs(), st.integers(1, 5))
def test_any_graph_is_kept(graph: tuple[list[Job], dict[str, str]], largest: int) -> None:
    jobs, requests = graph
    arrays = into_arrays(jobs, requests, {}, largest=largest)
    assert sorted(one.key for array in arrays for one in array.jobs) == sorted(one.key for one in jobs)
    before: set[str] = set()
    for array in arrays:
        assert len(array.jobs) <= largest
        assert {requests[one.key] for one in array.jobs} == {array.request}
        for task, one in enumerate(array.jobs):
            waits = {*array.afterok, *(arrays[index].jobs[task].key for index in array.aftercorr)}
            assert waits == {parent.key for parent in one.parents}
            assert waits <= before
            assert all(len(arrays[index].jobs) == len(array.jobs) > 1 for index in array.aftercorr)
        before |= {one.key for one in array.jobs}
