"""One run as it is submitted: watched, ended where it hangs or is asked to stop, and how that is told."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from guidance.experiments.jobs import work as module
from guidance.experiments.jobs.work import Work
from guidance.experiments.planning import Planned, prepare
from tests.support.processes import locked_elsewhere
from tests.unit.experiments.pretended import Pretended, experiment, outcome_of

RUN = "g/0000"


@pytest.fixture
def pretended(tmp_path: Path) -> Pretended:
    return Pretended(tmp_path / "pretended")


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    return prepare(experiment(stages={}, groups={"g": {}}), tmp_path / "experiment")


def test_a_run_that_trains(planned: Planned, pretended: Pretended) -> None:
    found = pretended.work(planned, RUN, {"CUDA_VISIBLE_DEVICES": "3"})()
    assert (found.kind, found.remark, found.steps) == ("finished", "", 2)
    assert 0 < found.seconds < 60
    assert outcome_of(planned, RUN)["kind"] == "finished"
    assert pretended.started == ["g_0000 0 3"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "3"
    assert planned.state(RUN).kind == "finished"


@pytest.mark.parametrize(
    ("behaviour", "remark"),
    [
        ("fail", "no such image (exit code 2)"),
        ("quiet", "some words (exit code 3)"),
        ("diverge", "the loss is not finite at step 1: total. (exit code 2)"),
        ("killed", "it was ended by SIGKILL, as by the system where memory runs out"),
    ],
)
def test_a_run_that_fails(planned: Planned, pretended: Pretended, behaviour: str, remark: str) -> None:
    pretended.behave(RUN, behaviour)
    planned.log(RUN).parent.mkdir(parents=True)
    planned.log(RUN).write_text("error: of an earlier start\n")
    found = pretended.work(planned, RUN)()
    assert (found.kind, found.remark) == ("failed", remark)
    assert outcome_of(planned, RUN)["remark"] == remark
    assert planned.state(RUN).kind == "failed"


def test_a_run_that_hangs_is_ended(planned: Planned, pretended: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not listen to SIGTERM."""
    monkeypatch.setattr(module, "GRACE", 0.3)
    monkeypatch.setattr(module, "FORCE", 0.1)
    pretended.behave(RUN, "hang")
    found = replace(pretended.work(planned, RUN), timeout=0.5 / 60)()
    assert found.kind == "failed"
    assert found.remark.startswith("it hangs: nothing new in its log and metrics.jsonl for 0.00833")


@pytest.mark.parametrize(
    ("code", "seconds", "kind", "remark"),
    [
        ("", None, "finished", ""),
        ("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)", 0.6, "failed",
         "its evaluation: it hangs: nothing new in its log and metrics.jsonl for 0.01 minutes, so it was ended"),
        ("import time\nfor _ in range(9): print('.', flush=True); time.sleep(0.2)", 1.5, "finished", ""),
        ("print('error: there is no split x'); raise SystemExit(2)", None, "failed",
         "its evaluation: there is no split x (exit code 2)"),
        ("raise SystemExit(75)", None, "interrupted", ""),
    ],
    ids=["well", "hanging", "slow", "failing", "not trained"],
)  # fmt: skip
def test_an_evaluation_is_watched_as_a_training_is(
    planned: Planned, pretended: Pretended, monkeypatch: pytest.MonkeyPatch, code: str, seconds: float | None, kind: str,
    remark: str,
) -> None:  # fmt: skip
    """Of a run that needs no more training. The slow one takes longer than the timeout, but prints."""
    monkeypatch.setattr(module, "GRACE", 0.3)
    monkeypatch.setattr(module, "FORCE", 0.1)
    monkeypatch.setattr(module, "EVALUATION", (sys.executable, "-S", "-c", code))
    wanted = [{"splits": ["test"], "set": {"evaluation.blur": 1.0}}]
    timeout = None if seconds is None else seconds / 60
    job = replace(pretended.work(planned, RUN), train=(), evaluate=wanted, imports=["mine"], timeout=timeout)
    assert job.evaluation()[4:] == [str(job.folder), json.dumps(wanted), "mine"]
    found = job()
    assert (found.kind, found.remark) == (kind, remark)
    assert outcome_of(planned, RUN)["kind"] == kind
    assert pretended.started == []


def test_a_run_that_is_asked_to_stop_saves_and_goes_on(planned: Planned, pretended: Pretended) -> None:
    """SIGTERM to the job, in the middle of the second epoch."""
    pretended.behave(RUN, "slow")
    log = planned.run_folder(RUN) / "metrics.jsonl"

    def ask() -> None:
        while not log.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as submitit's, which is called too
    try:
        threading.Thread(target=ask).start()
        assert pretended.work(planned, RUN)().kind == "interrupted"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (planned.state(RUN).kind, planned.state(RUN).epoch) == ("interrupted", 1)
    pretended.behave(RUN, "")
    assert pretended.work(planned, RUN)().kind == "finished"
    assert [line.split()[1] for line in pretended.started] == ["0", "1"]


def test_a_training_whose_watcher_is_killed_saves_and_ends(
    planned: Planned, pretended: Pretended, tmp_path: Path
) -> None:
    """As by `kill -9` of a sweep and all that it has started, which does not reach the session of the training."""
    pretended.behave(RUN, "slow")
    (tmp_path / "job").write_bytes(pickle.dumps(pretended.work(planned, RUN)))
    code = f"import pickle; pickle.load(open({str(tmp_path / 'job')!r}, 'rb'))()"
    watcher = subprocess.Popen([sys.executable, "-c", code])
    _until((planned.run_folder(RUN) / "metrics.jsonl").exists)
    watcher.kill()
    watcher.wait()
    _until(lambda: planned.log(RUN).read_text().endswith("stopped\n"))


def test_a_run_waits_until_who_held_it_has_ended(planned: Planned, pretended: Pretended) -> None:
    lock = planned.run_folder(RUN) / ".lock"
    lock.parent.mkdir(parents=True)
    started: list[str] = []
    with locked_elsewhere(lock) as release:
        threading.Timer(0.5, lambda: (started.extend(pretended.started), release())).start()
        assert pretended.work(planned, RUN)().kind == "finished"
    assert started == []
    assert len(pretended.started) == 1


def test_before_a_job_is_taken_away_the_training_has_saved(planned: Planned, pretended: Pretended) -> None:
    """submitit calls `checkpoint` in a signal handler, wherever the job is, and pickles what it returns to start it again."""
    pretended.behave(RUN, "slow")
    job = pretended.work(planned, RUN)
    later = []

    def taken_away(*_: object) -> None:
        later.append(job.checkpoint())
        process = job._process
        assert process is not None
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None  # it has ended

    before = signal.signal(signal.SIGUSR2, taken_away)
    try:
        log = planned.run_folder(RUN) / "metrics.jsonl"
        main = os.getpid()
        threading.Thread(target=lambda: (_until(log.exists), os.kill(main, signal.SIGUSR2))).start()
        assert job().kind == "interrupted"
    finally:
        signal.signal(signal.SIGUSR2, before)
    pretended.behave(RUN, "")
    again = pickle.loads(pickle.dumps(later[0].function))
    assert again().kind == "finished"
    assert [line.split()[1] for line in pretended.started] == ["0", "1"]


def _until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        time.sleep(0.02)


def test_several_processes_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Work("g/0000", Path("run"), Path("log"), ["train.py", "--resume"], processes=4)
    assert replace(job, processes=1).command()[1:] == ["train.py", "--resume"]
    assert job.command()[1:] == [
        "-m", "torch.distributed.run", "--nproc_per_node=4", "--standalone", "train.py", "--resume"
    ]  # fmt: skip
    said = {"num_nodes": 2, "node": 1, "job_id": "31_4", "hostnames": ["alpha", "beta"]}
    monkeypatch.setattr(module, "_environ", lambda name, default: said[name])
    assert job.command()[3:] == [
        "--nproc_per_node=4", "--nnodes=2", "--node_rank=1", "--master_addr=alpha", "--master_port=20035",
        "train.py", "--resume",
    ]  # fmt: skip


def test_of_several_processes_one_is_asked_to_stop(tmp_path: Path) -> None:
    """The one that holds the lock of the run, where it is on this machine and of this start; else torchrun."""

    def ended_by(host: str, age: float) -> int:
        sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(60)", "torch.distributed.run"]
        torchrun, training = subprocess.Popen(sleeper), subprocess.Popen(sleeper)
        (tmp_path / ".lock").write_text(json.dumps({"pid": training.pid, "host": host}))
        job = Work("g/0000", tmp_path, tmp_path / "log", ["train.py"], processes=2)
        job._started = time.time() + age
        torchrun.args = sleeper
        job._ask_to_stop(torchrun)
        time.sleep(0.2)
        codes = training.poll(), torchrun.poll()
        for process in (training, torchrun):
            process.kill()
            process.wait()
        assert codes in ((-signal.SIGUSR1, None), (None, -signal.SIGTERM)), codes
        return 0 if codes[1] is None else 1

    assert ended_by(socket.gethostname(), -1) == 0
    assert ended_by("another", -1) == 1
    assert ended_by(socket.gethostname(), 60) == 1
