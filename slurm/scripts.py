"""Job scripts for sbatch, from the templates in this folder or a template of the site."""

import shlex
import sys
from functools import cache
from hashlib import file_digest
from pathlib import Path

import jinja2
import jinja2.meta

from ascent.records import provenance
from ascent.records.errors import InputError, unknown
from ascent.slurm.manifest import Manifest
from ascent.slurm.sites import Site
from ascent.slurm.submission import Submission

FOLDER = Path(__file__).resolve().parent
# Whether a set-up has succeeded: one line that says what is missing.
TEST = (
    "command -v python > /dev/null ||",
    '    { echo "error: after the set-up, there is no python on the PATH"; exit 2; }',
    "python -P -c 'import ascent' 2> /dev/null ||",
    '    { echo "error: after the set-up, $(command -v python) has no package ascent"; exit 2; }',
)
TEST_CONTAINER = (
    "command -v apptainer > /dev/null ||",
    '    { echo "error: there is no apptainer on the PATH: load its module in the set-up"; exit 2; }',
)
# Runs a command, passes on SLURM's signals, and requests the requeue that a task cannot where there is no
# scontrol, as in a container: it ends with this exit code.
REQUEUE = 75
OUTSIDE = f"""
"$@" & child=$!
for name in USR1 TERM; do trap "kill -$name $child" $name; done
while :; do
    wait $child; code=$?
    kill -0 $child 2> /dev/null || break
done
if [ $code = {REQUEUE} ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" && sleep 120
fi
exit $code"""
REQUIRED = {"name", "array", "options", "setup", "command"}  # placeholders of a job template
OPTIONAL = {"sweep", "runs", "tasks"}
PROBE_TIME = "00:02:00"  # time limit of a probe
PROBE_WARNING = 80  # seconds before it, or up to 30 earlier, at which SLURM's warning is due


def check(site: Site) -> None:
    """Check the template and the set-up of a site.

    Raises:
        InputError: one of them cannot be used.
    """
    if site.container and not Path(site.container).exists():
        raise InputError(f"container: {site.container}: no such image")
    _job_template(site)
    _setup(site)


def job(manifest: Manifest, site: Site, submission: Submission) -> str:
    """Return the script of a job array."""
    limit = f"%{site.max_parallel}" if site.max_parallel else ""
    again = ["--open-mode=append", "--requeue", f"--signal=B:USR1@{site.warn_seconds}"]
    return _job_template(site).render(
        name=submission.name,
        array=f"0-{len(submission.tasks) - 1}{limit}",
        options=[
            *_job_options(site, submission.mem, site.time),
            *_exclude(submission.exclude),
            f"--output={submission.log('%a')}",
            *again,
            *_extra(site),
        ],
        setup=_setup(site),
        command=_command(site, "ascent.slurm.task", str(submission.path), runs=Path(submission.out)),
        sweep=manifest.path.parent.name,
        runs=sum(len(seeds) for task in submission.tasks for _, seeds in task),
        tasks=len(submission.tasks),
    )


def probe(manifest: Manifest, site: Site, mem: str, name: str, answer: Path) -> str:
    """Return the script of the job `name` that says in the file `answer` what a task would meet on a node."""
    once = ["--no-requeue", f"--signal=B:USR1@{PROBE_WARNING}"]
    output = f"--output={answer.with_suffix('.log')}"
    return _job_template(site).render(
        name=name,
        array="0-0",
        options=[*_job_options(site, mem, PROBE_TIME), *_exclude(site.exclude), output, *once, *_extra(site)],
        setup=_setup(site),
        command=_command(site, "ascent.runners.probe", str(answer), runs=answer.parent),
        sweep=manifest.path.parent.name,
        runs=0,
        tasks=1,
    )


def _job_options(site: Site, mem: str, limit: str) -> list[str]:
    """Return the options that say where a task runs and what it gets."""
    gpus = f"--gres=gpu:{site.gpu_type + ':' if site.gpu_type else ''}{site.gpus}"
    return [
        *_options(site),
        f"--time={limit}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={site.cores}",
        f"--mem={mem}",
        *([gpus] if site.gpus else []),
    ]


def report(manifest: Manifest, site: Site, name: str, runs: Path, page: Path) -> str:
    """Return the script of the job `name` that makes the report in folder `page`."""
    where = site.model_copy(update={"partition": site.report_partition or site.partition})
    options = [
        *_options(where),
        f"--time={site.report_time}",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--mem={site.report_mem}",
        f"--output={manifest.path.parent / 'logs' / name}.log",
        "--open-mode=append",
        "--requeue",
        *_exclude(site.exclude),
        *_extra(site),
    ]
    arguments = [str(manifest.path), "--runs", str(runs), "--out", str(page)]
    values = {
        "name": name,
        "options": options,
        "setup": _setup(site),
        "command": _command(site, "ascent", "report", *arguments, runs=runs, more=page.parent),
        "sweep": manifest.path.parent.name,
    }
    return _template(FOLDER / "report.sh.jinja", set(), set(values)).render(**values)


def _options(site: Site) -> list[str]:
    """Return the options that say where a job runs."""
    names = ("partition", "account", "qos", "constraint")
    return [f"--{name}={getattr(site, name)}" for name in names if getattr(site, name)]


def _exclude(names: str | None) -> list[str]:
    return [f"--exclude={names}"] if names else []


def _extra(site: Site) -> list[str]:
    """Return further options, quoted as sbatch reads them in a script."""
    options = []
    for option in site.extra:
        name, equals, value = option.partition("=")
        options.append(f"{name}={shlex.quote(value)}" if equals else option)
    return options


def _command(site: Site, module: str, *arguments: str, runs: Path, more: Path | None = None) -> str:
    """Return the shell command that runs a module of this package; in a container, with these folders."""
    python = "python" if site.setup or site.container else sys.executable
    words = [python, "-P", "-m", module, *arguments]
    if site.container:
        folders = [str(folder) for folder in (runs, more) if folder]
        gpu = ["--nv"] if site.gpus else []
        image = Path(site.container).resolve()
        recorded = ["--env", f"{provenance.CONTAINER}={_digest(image)}"]
        inside = ["apptainer", "exec", *gpu, *recorded, "--bind", ",".join(folders), str(image)]
        words = ["bash", "-c", OUTSIDE, "ascent", *inside, *words]
    return shlex.join(words)


def _setup(site: Site) -> str:
    """Return shell lines that prepare the environment of a job, and say if this did not succeed."""
    lines = []
    if site.setup:
        try:
            # In such files, commands fail and variables are unset without harm: the result counts.
            lines = ["set +euo pipefail", Path(site.setup).read_text().rstrip(), "set -euo pipefail"]
            lines += [] if site.container else TEST
        except OSError as error:
            raise InputError(f"setup: {site.setup}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"setup: {site.setup}: {error}") from error
    if site.container:
        image = Path(site.container).resolve()
        lines += [*TEST_CONTAINER, *_unchanged(image)]
    return "\n".join(lines)


def _unchanged(image: Path) -> list[str]:
    """Return shell lines that stop a job whose image is not the one of the recorded digest."""
    facts = image.stat()
    return [
        f'[ "$(stat -c "%s %Y" {shlex.quote(str(image))})" = "{facts.st_size} {int(facts.st_mtime)}" ] ||',
        f'    {{ echo "error: {image} changed since the submission: submit again"; exit 2; }}',
    ]


def _digest(image: Path) -> str:
    facts = image.stat()
    return _digest_of(image, facts.st_size, facts.st_mtime_ns)


@cache
def _digest_of(image: Path, size: int, changed: int) -> str:
    """Return the digest of an image, as containers' registries write it. A large one takes seconds."""
    with image.open("rb") as file:
        return f"sha256:{file_digest(file, 'sha256').hexdigest()}"


def _template(path: Path, required: set[str], optional: set[str]) -> jinja2.Template:
    """Read a template; it must have all required placeholders and may have the optional ones."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        text = path.read_text()
        used = jinja2.meta.find_undeclared_variables(environment.parse(text))
    except OSError as error:
        raise InputError(f"template: {path}: {error.strerror}") from error
    except (jinja2.TemplateError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if missing := sorted(required - used):
        raise InputError(f"{path}: the template lacks {{{{ {missing[0]} }}}}")
    allowed = required | optional
    if extra := sorted(used - allowed):
        raise InputError(f"{path}: {unknown('placeholder', extra[0], allowed)}")
    return environment.from_string(text)


def _job_template(site: Site) -> jinja2.Template:
    path = Path(site.template) if site.template else FOLDER / "job.sh.jinja"
    return _template(path, REQUIRED, OPTIONAL)
