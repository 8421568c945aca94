"""The files in `deploy/`: valid for what reads them, and their commands are the program's own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.storage.provenance import COMMIT
from orchestrator.sweep import main, parser
from tests.orchestrator.waiting import wait_until

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def job_command() -> str:
    """The command of the Kubernetes job."""
    entrypoint: str = yaml.safe_load((DEPLOY / "ray-job.yaml").read_text())["spec"]["entrypoint"]
    return entrypoint


def launcher_command() -> str:
    """The command in the comment of the launcher's file."""
    head = (DEPLOY / "ray-cluster.yaml").read_text().partition("\ncluster_name")[0]
    block = head[head.index("python -m") :]
    lines = re.match(r"(?:.*\\\n)*.*", block)
    assert lines is not None
    return re.sub(r"\\\n# *", "", lines[0])


@pytest.mark.parametrize("command", [job_command(), launcher_command()])
def test_the_command_of_a_file_plans_a_sweep_that_needs_the_image_alone(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "orchestrator.sweep"]
    storage = parser().parse_args(words[3:]).storage
    assert storage.startswith("s3://")
    monkeypatch.chdir(tmp_path)
    here = [str(tmp_path / "storage") if word == storage else word for word in words[3:]]
    assert main([*here, "--plan"]) == 0
    assert "1 CPU and 1 GPU in the trial's process" in capsys.readouterr().out


def test_the_cluster_is_valid_for_rays_launcher() -> None:
    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    schema = resources.files("ray.autoscaler").joinpath("ray-schema.json").read_text()
    jsonschema.validate(cluster, json.loads(schema))
    types = cluster["available_node_types"]
    market = {
        name: kind["node_config"].get("InstanceMarketOptions") for name, kind in types.items()
    }
    assert market[cluster["head_node_type"]] is None, "the head is on demand"
    assert market["worker"] == {"MarketType": "spot"}
    for kind in types.values():
        assert kind["node_config"]["IamInstanceProfile"], "each node reads and writes the bucket"
    for start in (*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]):
        assert "ray start" not in start or "RAY_AUTH_MODE=token" in start


def test_the_kubernetes_job_is_tried_again_on_a_cluster_with_tokens() -> None:
    job = yaml.safe_load((DEPLOY / "ray-job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for group in [
        spec["rayClusterSpec"]["headGroupSpec"],
        *spec["rayClusterSpec"]["workerGroupSpecs"],
    ]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["envFrom"] == [{"secretRef": {"name": "bridgesweep-storage"}}]


def test_the_image_copies_what_is_there_and_installs_what_the_readme_says() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
    packages = {"search_spaces", "trainables", "orchestrator", "analysis", "bridgesweep"}
    assert all(f"COPY {package} {package}" in text for package in packages)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        s for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for s in line.split()
    }
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert text.index("ARG COMMIT") < text.index(f"ENV {COMMIT}=$COMMIT")
    install = '-c constraints.txt ".[cluster]"'
    assert install in text
    assert install in (ROOT / "docs" / "cluster.md").read_text()


def test_programs_start_where_no_sources_stand() -> None:
    """`python -m` runs what stands there; the commit is known of the installed package alone."""
    places: list[str] = []
    filled = set()
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("WORKDIR "):
            places.append(line.split()[1])
        elif line.startswith("COPY "):
            filled.add(places[-1])
    assert places[-1] not in filled


def test_the_image_has_what_rays_launcher_needs_on_the_head() -> None:
    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    assert cluster["provider"]["type"] == "aws"
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    (system,) = re.findall(r"apt-get install (.+?) &&", text)
    assert {"openssh-client", "rsync"} <= set(system.split())
    (packages,) = re.findall(r"pip install (.+?) &&", text)
    assert "boto3" in packages.split()
    assert re.search(r"^boto3==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def stand_ins(directory: Path, **bodies: str) -> Path:
    """Write programs that write down how they were called; returns the file of the calls.

    Args:
        bodies: of shell scripts, by the program's name.
    """
    calls = directory / "calls"
    for name, body in bodies.items():
        program = directory / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\n{body}\n')
        program.chmod(0o755)
    return calls


def test_the_slurm_script_starts_a_cluster_and_passes_its_arguments_on(tmp_path: Path) -> None:
    # On the node that it names, or else on the other one, which has more GPUs.
    step = """case "$*" in *--nodelist=*) gpus=1 ;; *) gpus=4 ;; esac
    while [ "$1" != sh ]; do shift; done
    export SLURM_GPUS_ON_NODE=$gpus; exec "$@" """
    nodes = "echo node1; echo node2"
    calls = stand_ins(tmp_path, scontrol=nodes, srun=step, ray="", python="echo secret", sleep="")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "4",
    }
    script = ["bash", str(DEPLOY / "slurm.sh")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert (done.returncode, "usage" in done.stderr) == (2, True)
    subprocess.run([*script, "demo", "/shared", "--plan"], env=environment, check=True)
    # They run in the background.
    wait_until(lambda: calls.read_text().count("\nray start") == 2, 20)
    lines = calls.read_text().splitlines()
    starts = [line for line in lines if line.startswith("srun")]
    assert all("--cpus-per-task=4 " in line for line in starts)
    assert "#SBATCH --no-kill" in (DEPLOY / "slurm.sh").read_text(), "not only of its steps"
    assert "--nodelist=node1 " in starts[0] + starts[1]
    assert any("--exclude=node1 " in line for line in starts)
    head, worker = sorted((line for line in lines if line.startswith("ray start")), reverse=True)
    assert head.startswith("ray start --head --node-ip-address=node1 --port=20007 ")
    assert worker.startswith("ray start --address=node1:20007 ")
    assert head.endswith("--num-cpus=4 --num-gpus=1 --block")
    assert worker.endswith("--num-cpus=4 --num-gpus=4 --block")
    assert "python -m orchestrator.sweep demo --storage /shared --plan" in lines
    assert not list(tmp_path.glob(".ray-token*")), "the token is removed"


def slurm_script(directory: Path) -> subprocess.Popen[str]:
    """The script as Slurm runs it on one node, with the stand-ins of a directory."""
    names = ("SUBMIT_DIR", str(directory)), ("JOB_ID", "7"), ("JOB_NODELIST", "node1")
    environment = {f"SLURM_{name}": value for name, value in names}
    return subprocess.Popen(
        ["bash", str(DEPLOY / "slurm.sh"), "demo", "/shared"],
        env={**environment, "PATH": f"{directory}:/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_token_of_a_slurm_job_is_written_into_a_file_of_its_owner_alone(
    tmp_path: Path,
) -> None:
    known = tmp_path / "known"
    known.write_text("")
    known.chmod(0o666)
    (tmp_path / ".ray-token-7").symlink_to(known)  # made beforehand by who guessed the name
    (tmp_path / ".ray-token-7.left").write_text("of a run that was killed")
    look = 'stat -c %a "$RAY_AUTH_TOKEN_PATH"; cat "$RAY_AUTH_TOKEN_PATH"'
    program = f'case "$1" in -c) echo secret ;; *) {{ {look}; }} > {tmp_path}/seen ;; esac'
    stand_ins(tmp_path, scontrol="echo node1", srun="", ray="", python=program, sleep="")
    script = slurm_script(tmp_path)
    _, error = script.communicate(timeout=60)
    assert script.returncode == 0, error
    assert (tmp_path / "seen").read_text().split() == ["600", "secret"]
    assert known.read_text() == ""
    assert not list(tmp_path.glob(".ray-token-7.*"))


@pytest.mark.parametrize(
    ("ray", "sweep", "code", "said"),
    [("", "exit 7", 7, ""), ("exit 1", "", 1, "Ray did not start on node1 within two minutes")],
)
def test_the_slurm_script_ends_as_the_sweep_or_says_that_there_is_no_cluster(
    ray: str, sweep: str, code: int, said: str, tmp_path: Path
) -> None:
    program = f'case "$1" in -c) ;; *) {sweep or "true"} ;; esac'
    calls = stand_ins(tmp_path, scontrol="echo node1", srun="", ray=ray, python=program, sleep="")
    script = slurm_script(tmp_path)
    _, error = script.communicate(timeout=60)
    assert script.returncode == code
    assert said in error
    assert ("orchestrator.sweep" in calls.read_text()) is (code == 7)


def test_the_slurm_script_asks_for_another_run_before_its_time_is_over(tmp_path: Path) -> None:
    sweep = 'case "$1" in -c) ;; *) exec sleep 30 ;; esac'
    calls = stand_ins(tmp_path, scontrol="echo node1", srun="", ray="", python=sweep)
    script = slurm_script(tmp_path)
    try:
        wait_until(lambda: calls.exists() and "orchestrator.sweep" in calls.read_text(), 20)
        time.sleep(0.5)  # until the script waits
        script.send_signal(signal.SIGUSR1)
        wait_until(lambda: "scontrol requeue 7" in calls.read_text(), 20)
        assert script.poll() is None, "the sweep goes on until Slurm ends it"
    finally:
        os.killpg(script.pid, signal.SIGTERM)
        script.communicate()
    assert "#SBATCH --signal=B:USR1@" in (DEPLOY / "slurm.sh").read_text()


def test_no_cluster_here_is_one_that_a_sweep_refuses() -> None:
    """Each has a token, so no command needs `--insecure`."""
    for file in DEPLOY.iterdir():
        text = file.read_text()
        assert "--insecure" not in text, file
        assert "RAY_AUTH_MODE=token" in text or "authOptions: {mode: token}" in text, file
    assert "--insecure" in parser().format_help()
    assert "`--insecure`" in (ROOT / "docs" / "cluster.md").read_text()


def test_the_slurm_script_is_valid_for_bash() -> None:
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm.sh")], check=True)
