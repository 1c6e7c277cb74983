"""A throw-away SLURM cluster on this machine: real daemons, fake GPUs, up and gone again in seconds.

    with Cluster(nodes=2, cpus=4) as cluster:
        cluster.run("sbatch", "--wrap", "hostname")

or from a shell:

    python -m tests.slurm.cluster up /tmp/slurm
    eval "$(python -m tests.slurm.cluster env /tmp/slurm)"
    python -m tests.slurm.cluster down /tmp/slurm

Everything lies in one folder and runs as the current user, root or not; several clusters can run at once. It
takes Debian's slurmctld, slurmd, slurm-client and munge, but no systemd and no cgroups. Accounting (`sacct`,
accounts, QOS, limits) is extra: it takes slurmdbd and mariadb-server-core, and a few more seconds to start.
"""

import argparse
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from tests.slurm import accounting

PROGRAMS = ("slurmctld", "slurmd", "munged", "mungekey", "sbatch", "sinfo", "scontrol")
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
FOREIGN = ("SLURM", "SBATCH_", "SALLOC_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_")
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
USABLE = {"idle", "mixed", "allocated", "completing"}  # of a node's states; a star behind it: no answer
# Becomes the ancestor of all that the command starts, and then the command. Not a preexec_fn: for one Python
# forks, and a large process, as pytest is late in its run, may not be allowed to.
ADOPT = """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

SLURM_CONF = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# After a requeue SLURM waits until the old credential has expired: two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
MailProg=/bin/true
# Neither cgroups nor pinning: they need rights that a container rarely gives.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1,nohold_on_prolog_fail
# Nodes may have more CPUs and memory than the machine.
SlurmdParameters=config_overrides
SlurmdTimeout=5
MessageTimeout=5
KillWait={kill_wait}
OverTimeLimit=0
MinJobAge=300
MaxArraySize={max_array_size}
# A node that was lost comes back by itself.
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
PartitionName=DEFAULT Nodes=ALL State=UP MaxTime=INFINITE DefMemPerCPU=100
PartitionName=main Default=YES PriorityTier=1
PartitionName=urgent PriorityTier=10
NodeName=DEFAULT CPUs={cpus} RealMemory=8000 Gres=gpu:fake:2
"""
# Any character device will do as a GPU, but each needs its own.
GRES_CONF = "Name=gpu Type=fake File=/dev/null,/dev/zero Flags=nvidia_gpu_env\n"

# A node's first process: it starts slurmd, again at each SIGUSR1, and reaps what jobs leave behind. The
# sleeper lets `wait` block while there is no slurmd.
INIT = """\
if [ "$4" ]; then hostname "$4" || exit; fi
start() { "$1" -D -f "$2" -N "$3" & }
trap 'start "$@"' USR1
start "$@"
sleep infinity &
while :; do wait; done
"""


def missing(programs: Iterable[str] = PROGRAMS) -> str | None:
    """The first of the needed programs that is not installed, or None."""
    return next((name for name in programs if not shutil.which(name, path=PATH)), None)


class Cluster:
    """A controller and nodes node1, node2, ... in one folder: a new one in /tmp, or one that is empty.

    Lines of `extra` go to the end of slurm.conf, and a setting there replaces ours. With `isolate`, where
    that is permitted, each node has its own processes and hostname; otherwise this machine's hostname. With
    `accounting`, whoever starts the cluster is a user with the accounts and QOS of accounting.SACCTMGR.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        nodes: int = 2,
        cpus: int = 4,
        max_array_size: int = 1001,  # array indices are below it
        kill_wait: int = 5,  # seconds from SIGTERM to SIGKILL
        extra: Iterable[str] = (),
        isolate: bool = True,
        accounting: bool = False,
        keep: bool = False,  # the folder, when going down
    ) -> None:
        self.folder = (folder or Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))).resolve()
        if len(str(self.folder)) > 60:
            raise ValueError(f"{self.folder} is too long a path: sockets in it must be below 108 bytes")
        self.conf = self.folder / "ascent.slurm.conf"
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.keep = keep
        self._settings = {"cpus": cpus, "max_array_size": max_array_size, "kill_wait": kill_wait}
        self._extra = list(extra)
        self._accounting = accounting
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        self._pids = self.folder / "pids"
        self._unshare = _unshare() if isolate else []
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Start all and wait until every node is idle. RuntimeError: what failed, with the end of its log."""
        if absent := missing(PROGRAMS + accounting.PROGRAMS * self._accounting):
            raise RuntimeError(f"{absent} is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise RuntimeError(f"{self.folder} is not empty")
        try:
            self._write()
            self._start_munge()
            if self._accounting:
                self._start_accounting()
            self.start_controller()
            for name in self.nodes:
                self.start_node(name)
            self.wait_ready()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Kill all that was started here, by whichever process, and remove the folder unless it is kept."""
        daemons = ("slurmctld", "slurmdbd", "mariadbd", "munged")
        for name in (*(path.name for path in self._pids.glob("node*")), *daemons):
            self._kill(name)
        for child in self._children:
            child.wait()
        self._children.clear()
        if not self.keep and self._pids.exists():  # if it is ours
            shutil.rmtree(self.folder)

    def environment(self) -> dict[str, str]:
        """The environment for programs that use this cluster, without traces of any other."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return ours | {"SLURM_CONF": str(self.conf), "PATH": PATH}

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a client command, such as `run("squeue", "--noheader")`, and capture what it says."""
        return subprocess.run(words, env=self.environment(), capture_output=True, text=True, timeout=timeout)

    def describe(self) -> str:
        """Return the queue, the nodes and the end of the controller's log."""
        queue = self.run("squeue", "--format=%i %j %T %r %N").stdout
        nodes = self.run("sinfo", "--Node", "--format=%N %T %E").stdout
        return f"{queue}{nodes}{self._end(self.folder / 'slurmctld.log')}"

    def wait_ready(self, timeout: float = 60) -> None:
        """Wait until every node can take jobs. The controller takes 10 to 15 s to notice that one is lost."""
        self._wait("slurmctld", lambda: self.run("scontrol", "ping").returncode == 0, timeout)
        state = ("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T", "--nodes")
        for name in self.nodes:
            self._wait(name, lambda name=name: self.run(*state, name).stdout.strip() in USABLE, timeout)

    def kill_node(self, name: str) -> None:
        """A power cut: slurmd and all that runs on the node is gone at once, and nothing can say goodbye."""
        self._kill(name)

    def lose_slurmd(self, name: str) -> None:
        """Kill slurmd only, with -9: the node is silent, but its tasks live on."""
        _kill(self._daemon(name))

    def start_node(self, name: str) -> None:
        """Start the node after `kill_node`, or its slurmd after `lose_slurmd`.

        After `kill_node` wait until its jobs are requeued, or call `set_down`: the controller does not miss
        jobs younger than 15 s (BatchStartTimeout + MessageTimeout) on a node that it never saw lost.
        """
        if not (tree := self._tree(name)):
            words = ["sh", "-c", INIT, "sh", _program("slurmd"), str(self.conf), name]
            self._start(name, [*self._unshare, *words, name if self._unshare else ""], adopt=True)
        elif not self._daemon(name):
            os.kill(tree[1 if self._unshare else 0], signal.SIGUSR1)
        if not _until(lambda: bool(self._daemon(name)), timeout=10):
            raise self._failure(name)

    def kill_controller(self) -> None:
        """Kill slurmctld with -9: jobs go on. What it had not saved is forgotten, and may happen twice."""
        self._kill("slurmctld")

    def save_queue(self, job: str) -> None:
        """Have slurmctld save its queue, as it does when a job is changed, but not soon after one began."""
        state, start = self.folder / "state" / "job_state", time.time()
        done = self.run("scontrol", "update", f"jobid={job}", "comment=save")
        if done.returncode:
            raise RuntimeError(f"job {job}: {done.stderr.strip()}")
        self._wait("slurmctld", lambda: state.exists() and state.stat().st_mtime > start)

    def start_controller(self) -> None:
        """Start slurmctld with the queue that it saved, and wait until it answers."""
        self._start("slurmctld", [_program("slurmctld"), "-D", "-f", str(self.conf)])
        self._wait("slurmctld", lambda: self.run("scontrol", "ping").returncode == 0)

    def set_down(self, name: str) -> None:
        """Declare the node dead, so that its jobs are requeued now and not after 15 s of silence."""
        self._update(name, "state=DRAIN", "reason=test")  # or it would come back within a second if it lives
        self._update(name, "state=DOWN", "reason=test")

    def set_up(self, name: str) -> None:
        """Take back `set_down`, also after the node was killed and started."""
        self._update(name, "state=RESUME")

    def _update(self, name: str, *words: str) -> None:
        done = self.run("scontrol", "update", f"nodename={name}", *words)
        if done.returncode:
            raise RuntimeError(f"{name}, {words[0]}: {done.stderr.strip()}")

    def _write(self) -> None:
        self.folder.chmod(0o755)  # munged insists that everybody can reach its socket
        for folder in ("pids", "state", *self.nodes):
            (self.folder / folder).mkdir()
        version = subprocess.check_output([_program("slurmctld"), "-V"], text=True).split()[-1]
        old = tuple(int(number) for number in version.split(".")[:2]) < (23, 11)
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={'cgroup/v1' if old else 'disabled'}\n")
        (self.folder / "gres.conf").write_text(GRES_CONF)
        host = socket.gethostname().split(".")[0]
        port, database_port, *ports = _free_ports(2 + len(self.nodes))
        names = {"folder": self.folder, "host": host, "user": self._user, "port": port}
        settings = SLURM_CONF.format(**names, **self._settings)
        if self._accounting:
            settings += accounting.write(self.folder, host, self._user, database_port)
        nodes = [
            f"NodeName={name} NodeHostname={name if self._unshare else host} NodeAddr=127.0.0.1 Port={port}"
            for name, port in zip(self.nodes, ports, strict=True)
        ]
        self.conf.write_text("\n".join([settings, *nodes, *self._extra, ""]))

    def _start_munge(self) -> None:
        base = self.folder / "munge"
        subprocess.run([_program("mungekey"), "--create", f"--keyfile={base}.key"], check=True)
        files = [f"--{name}-file={base}.{name}" for name in ("key", "pid", "log", "seed")]
        # --force: folders above ours may be open to others or closed to them. All users here are one.
        words = [_program("munged"), "--foreground", "--force", "--num-threads=2", f"--socket={base}.socket"]
        self._start("munged", [*words, *files])
        self._wait("munged", base.with_suffix(".socket").exists)

    def _start_accounting(self) -> None:
        self._start("mariadbd", [_program("mariadbd"), f"--defaults-file={self.folder}/mariadb.conf"])
        self._wait("mariadbd", lambda: accounting.serves(self.folder))
        self._start("slurmdbd", [_program("slurmdbd"), "-D"])
        self._wait("slurmdbd", lambda: self.run("sacctmgr", "-n", "list", "cluster").returncode == 0)
        for line in accounting.SACCTMGR:
            done = self.run("sacctmgr", "--immediate", *line.format(user=self._user).split())
            if done.returncode:
                raise RuntimeError(f"sacctmgr {line}: {done.stdout}{done.stderr}")

    def _start(self, name: str, words: list[str], adopt: bool = False) -> None:
        """Start a daemon in its own session, its output in a file, as a pipe would block its reader.

        One that adopts stays an ancestor of all that it starts, daemons too, so that `_tree` finds them.
        """

        if adopt:
            words = [sys.executable, "-c", ADOPT, *words]
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment() | {"MYSQL_UNIX_PORT": f"{self.folder}/mariadb.socket"},
                cwd=self.folder,
                start_new_session=True,
            )
        self._children.append(child)
        (self._pids / name).write_text(f"{child.pid} {_stat(child.pid)[2]}")

    def _wait(self, name: str, true: Callable[[], bool], timeout: float = 30) -> None:
        """Wait until it is true, and raise if the daemon ends before or the time is up."""
        _until(lambda: not self._daemon(name) or true(), timeout)
        if not self._daemon(name) or not true():
            raise self._failure(name)

    def _failure(self, name: str) -> RuntimeError:
        """What to raise for a daemon: its last words, and the controller's."""
        logs = dict.fromkeys(self.folder / f"{log}.log" for log in (name, "slurmctld"))
        ends = [self._end(log) for log in logs if log.exists()]
        state = "does not answer" if self._daemon(name) else "ended"
        return RuntimeError("\n".join([f"{name} {state}", *ends]))

    @staticmethod
    def _end(log: Path) -> str:
        return "\n".join([f"The end of {log}:", *log.read_text(errors="replace").splitlines()[-15:]])

    def _tree(self, name: str) -> list[int]:
        """The living process that was started under this name and its living descendants, ancestors first."""
        path = self._pids / name
        pid, start = path.read_text().split() if path.exists() else ("0", "")
        if _stat(int(pid))[1:] != (True, start):
            return []
        processes = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
        tree = [int(pid)]
        for parent in tree:
            tree += [child for child, (its, lives, _) in processes.items() if lives and its == parent]
        return tree

    def _daemon(self, name: str) -> list[int]:
        """The daemon of this name, without its helpers and tasks; empty if it is dead."""
        return [pid for pid in self._tree(name) if _name(pid) in DAEMONS]

    def _kill(self, name: str) -> None:
        """Freeze the tree, then kill it: nothing forks away, and none sees another die and can tell of it."""
        frozen: list[int] = []
        while new := [pid for pid in self._tree(name) if pid not in frozen]:
            _signal(new, signal.SIGSTOP)
            frozen += new
        _kill(frozen)
        for child in self._children:
            child.poll()  # no zombie for as long as the cluster is up


def _unshare() -> list[str]:
    """The command that gives a node its own processes, which die with it, and hostname; or nothing."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
    if os.geteuid():
        command += ["--user", "--map-current-user", "--keep-caps"]
    try:
        tried = subprocess.run([*command, "sh", "-c", 'hostname "$(hostname)"'], capture_output=True)
    except FileNotFoundError:
        return []
    return [] if tried.returncode else command


def _program(name: str) -> str:
    """Where a program is: an ordinary user's PATH may lack the folders of daemons."""
    return shutil.which(name, path=PATH) or name


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to connections."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(10_000, 32_000)  # whatever seed a test may have set
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) and port not in ports:
                ports.append(port)
    return ports


def _stat(pid: int) -> tuple[int, bool, str]:
    """A process's parent, whether it lives (a zombie does not), and its start, as ids are used again."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, False, ""
    return int(words[1]), words[0] not in "ZX", words[19]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill(pids: list[int]) -> None:
    """Kill with -9, and wait until all are dead."""
    _signal(pids, signal.SIGKILL)
    if not _until(lambda: not any(_stat(pid)[1] for pid in pids)):
        raise RuntimeError(f"processes {pids} survive a kill")


def _until(true: Callable[[], bool], timeout: float = 30) -> bool:
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tests.slurm.cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("up", "env", "down"))
    parser.add_argument("folder", type=Path, help="of the cluster, with a short path")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=4, help="of a node")
    parser.add_argument("--accounting", action="store_true", help="with sacct, accounts and QOS")
    given = parser.parse_args()
    try:
        cluster = Cluster(given.folder, nodes=given.nodes, cpus=given.cpus, accounting=given.accounting)
        if given.command == "up":
            cluster.up()
            print(f"{', '.join(cluster.nodes)} in partitions main and urgent; logs are in {cluster.folder}")
        elif not cluster.conf.exists():
            raise RuntimeError(f"there is no cluster in {cluster.folder}")
        elif given.command == "env":
            print(f"export SLURM_CONF={cluster.conf}")
        else:
            cluster.down()
    except (RuntimeError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
