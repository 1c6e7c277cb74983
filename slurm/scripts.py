"""The scripts that sbatch is given: from the templates in this folder, or a site's own."""

import shlex
import sys
from pathlib import Path

import jinja2
import jinja2.meta

from ascent.records.errors import InputError, unknown
from ascent.slurm.manifest import Manifest
from ascent.slurm.sites import Site
from ascent.slurm.submission import Submission

FOLDER = Path(__file__).resolve().parent
NEEDED = {"name", "array", "options", "setup", "command"}  # placeholders of a job's template
# The same instructions on every processor of one vendor that has AVX2; numpy ignores what a processor lacks.
PORTABLE = {
    "MKL_CBWR": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}


def check(site: Site) -> None:
    """Raises InputError for a template or a set-up that cannot be used."""
    _job_template(site)
    _setup(site)


def job(manifest: Manifest, site: Site, mem: str, submission: Submission) -> str:
    """The script of a job array."""
    limit = f"%{site.max_parallel}" if site.max_parallel else ""
    options = [
        *_options(site),
        f"--time={site.time}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={site.cpus}",
        f"--mem={mem}",
        *([f"--gres=gpu:{site.gpu_type + ':' if site.gpu_type else ''}{site.gpus}"] if site.gpus else []),
        f"--output={submission.log('%a')}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{site.warn_seconds}",
        *site.extra,
    ]
    return _job_template(site).render(
        name=submission.name,
        array=f"0-{len(submission.tasks) - 1}{limit}",
        options=options,
        setup=_setup(site),
        command=shlex.join([_python(site), "-P", "-m", "ascent.slurm.task", str(submission.path)]),
        sweep=manifest.path.parent.name,
        runs=sum(len(seeds) for task in submission.tasks for _, seeds in task),
        tasks=len(submission.tasks),
    )


def report(manifest: Manifest, site: Site, name: str, out: Path, page: Path) -> str:
    """The script of the job that makes the report."""
    words = [_python(site), "-P", "-m", "ascent", "report", manifest.path, "--runs", out, "--out", page]
    options = [
        *_options(site.model_copy(update={"partition": site.report_partition or site.partition})),
        f"--time={site.report_time}",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--mem={site.report_mem}",
        f"--output={manifest.path.parent / 'logs' / name}.log",
        "--open-mode=append",
        "--requeue",
    ]
    command = shlex.join(map(str, words))
    values = {"name": name, "options": options, "setup": _setup(site), "command": command}
    template = _template(FOLDER / "report.sh.jinja", set(), {*values, "sweep"})
    return template.render(**values, sweep=manifest.path.parent.name)


def _options(site: Site) -> list[str]:
    names = ("partition", "account", "qos", "constraint")
    return [f"--{name}={getattr(site, name)}" for name in names if getattr(site, name)]


def _python(site: Site) -> str:
    """The one that the site's set-up puts on the path, or this one."""
    return "python" if site.setup else sys.executable


def _setup(site: Site) -> str:
    """Shell lines after which Python finds this project and what it needs."""
    lines = []
    if site.setup:
        try:
            # Modules and conda refer to variables that are not set.
            lines = ["set +u", Path(site.setup).read_text().rstrip(), "set -u"]
        except (OSError, ValueError) as error:
            raise InputError(f"setup: {error}") from error
    if site.math == "portable":
        lines += [f"export {name}={shlex.quote(value)}" for name, value in PORTABLE.items()]
    return "\n".join(lines)


def _template(path: Path, needed: set[str], allowed: set[str]) -> jinja2.Template:
    """A template that has the placeholders that are needed and no others than are allowed."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        text = path.read_text()
        used = jinja2.meta.find_undeclared_variables(environment.parse(text))
    except OSError as error:
        raise InputError(f"template: {error}") from error
    except (jinja2.TemplateError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if absent := sorted(needed - used):
        raise InputError(f"{path}: the template has no {{{{ {absent[0]} }}}}")
    if strange := sorted(used - allowed):
        raise InputError(f"{path}: {unknown('placeholder', strange[0], allowed)}")
    return environment.from_string(text)


def _job_template(site: Site) -> jinja2.Template:
    path = Path(site.template) if site.template else FOLDER / "job.sh.jinja"
    return _template(path, NEEDED, NEEDED | {"sweep", "runs", "tasks"})
