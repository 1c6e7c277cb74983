"""`ascent bundle`: one file from which another machine checks, verifies and reports; changes are named."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from ascent.records import files
from ascent.records.errors import InputError
from ascent.reports.checking import bundle
from ascent.reports.checking.anonymous import Pseudonyms
from ascent.reports.imports import importing
from ascent.reports.report import build
from tests.command import call
from tests.reports import trained
from tests.reports.trained import forge, rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def one_commit() -> Iterator[None]:
    """Somebody may commit while the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "_project", lambda: {"version": "0.1.0", "commit": trained.UNKNOWN})
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs`, `report` and `report.zip`; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    trained.make(folder / "runs")
    (folder / "curves.csv").write_text("seed,step,return\n0,0,1.5\n0,400,2.5\n1,0,1.0\n1,400,2.0\n")
    importing.import_curves([folder / "curves.csv"], "Other", "CartPole-v1", folder / "runs")
    (cell,) = folder.glob("runs/*/*/td3-*")
    (cell / "seed-4").mkdir()  # was interrupted: the report says so
    for name in ("run.json", "train.csv"):
        shutil.copy(cell / "seed-1" / name, cell / "seed-4")
    trained.pretend_seed(cell / "seed-4", 4)
    build(folder / "runs", folder / "report", title="Two cells")
    bundle.pack(folder / "report", folder / "runs", folder / "report.zip")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "copy")


def repack(path: Path, change: Callable[[dict[str, bytes]], object], sums: bool = True) -> None:
    """Change what is in a bundle; with `sums`, also its sums, as who means ill would."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    change(content)
    if sums:
        digests = {name: sha256(data).hexdigest() for name, data in content.items() if name != bundle.SUMS}
        content[bundle.SUMS] = "".join(f"{d}  {name}\n" for name, d in sorted(digests.items())).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_another_machine_needs_nothing_else(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check, verify at two depths, and the same report, from the one file in an empty folder.

    The git repository there does not have the commit, and this is said.
    """
    shutil.copy(made / "report.zip", tmp_path)
    settings = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}}

    def ascent(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "ascent", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **settings)
        return done.returncode, done.stdout

    code, out = ascent("verify", "report.zip")
    assert code == 2 and "rebuilt  report.zip\n" in out and "byte for byte" in out
    assert "1 rebuilt, 1 imported, 2 recorded (origin unknown), 1 cannot be verified" in out
    assert "is not in the repository of this project" in out
    code, out = ascent("report", "report.zip", "--out", "again")
    assert code == 0 and out.strip() == str(tmp_path / "again" / "index.html")
    names = sorted(
        path.relative_to(made / "report") for path in (made / "report").rglob("*") if path.is_file()
    )
    assert len(names) > 20
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (made / "report" / name).read_bytes(), name
    code, out = ascent("check", "report.zip")
    assert code == 1 and out.count("FAIL") == 1 and "all-finished         FAIL" in out
    code, out = ascent("verify", "report.zip", "--depth", "start", "--steps", "0")
    assert code == 2 and "6 restarted (origin unknown), 2 cannot be verified" in out
    assert {path.name for path in tmp_path.iterdir()} == {"report.zip", "again"}, "nothing is left behind"


def test_same_bytes_each_time(made: Path, tmp_path: Path) -> None:
    """Whatever the folder and the times of the files."""
    elsewhere = shutil.copytree(made, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for cell in elsewhere.glob("runs/*/*/*"):
        (cell / "logs").mkdir()
    names = bundle.pack(elsewhere / "report", elsewhere / "runs", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (made / "report.zip").read_bytes()
    assert "bundle.json" in names and bundle.SUMS in names
    assert not [name for name in names if "checkpoint" in name]
    assert sum(name.endswith("policy.npz") for name in names) == 6
    assert sum("/sources-" in name for name in names) == 2


def test_sums_are_those_that_sha256sum_reads(made: Path, tmp_path: Path) -> None:
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    shutil.unpack_archive(made / "report.zip", tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", bundle.SUMS], cwd=tmp_path, check=True)


def test_a_flipped_byte_is_named(made: Path, tmp_path: Path) -> None:
    """Anywhere in the archive: refused, or in a field of the format that changes nothing that comes out."""
    whole = (made / "report.zip").read_bytes()
    with zipfile.ZipFile(made / "report.zip") as archive:
        places = {entry.header_offset + 30 + len(entry.filename): entry for entry in archive.infolist()}
        content = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "flipped.zip"
    named = 0
    for start, entry in list(places.items())[::3]:
        if entry.file_size < 10:
            continue  # padding is all there is
        data = bytearray(whole)
        data[start + entry.compress_size // 2] ^= 16
        path.write_bytes(data)
        with pytest.raises(InputError) as refusal, bundle.opened(path):
            pass
        named += entry.filename in str(refusal.value)
    assert named > 15
    for at in range(len(whole) - 700, len(whole), 7):  # the end of the directory
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            with bundle.opened(path) as folder:
                assert {name: (folder / name).read_bytes() for name in content if name != bundle.SUMS} == {
                    name: data for name, data in content.items() if name != bundle.SUMS
                }
        except InputError as error:
            assert str(path) in str(error)


HOSTILE: dict[str, tuple[str, str]] = {
    "absolute": ("/tmp/ascent-was-here", "does not belong in a bundle"),
    "leads out": ("report/../../../ascent-was-here", "escapes the archive"),
    "leads out at the end": ("report/figures/..", "escapes the archive"),
    "double slash": ("report//etc/passwd", "escapes the archive"),
    "folder": ("report/figures/", "is a folder or"),
    "backslash": ("report\\..\\..\\x", "does not belong in a bundle"),
    "beside": ("setup.py", "does not belong in a bundle"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_names(case: str, copy: Path) -> None:
    """Their sums are right."""
    name, said = HOSTILE[case]
    repack(copy / "report.zip", lambda content: content.update({name: b"x"}))
    with pytest.raises(InputError, match=said), bundle.opened(copy / "report.zip"):
        pass


def test_links_bombs_and_doubles(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "report.zip"
    kept = path.read_bytes()

    def refused(said: str) -> None:
        with pytest.raises(InputError, match=said), bundle.opened(path):
            pass
        path.write_bytes(kept)

    link = zipfile.ZipInfo("report/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused("'report/link' is a link")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("report/index.html", "another")
    refused("two files have the same name")
    monkeypatch.setattr(files, "MOST_RATIO", 20)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report/bomb", bytes(10**6))
    refused("'report/bomb' claims 1,000,000 bytes")
    monkeypatch.undo()
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    refused("exceed the limits of a bundle")
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    refused("which has 1 free")


def test_what_is_no_bundle(copy: Path, tmp_path: Path) -> None:
    path = copy / "report.zip"
    kept = path.read_bytes()
    for change, sums, said in (
        (lambda content: content.pop(bundle.SUMS), False, "SHA256SUMS is missing"),
        (lambda content: content.pop("report/index.html"), False, "report/index.html is missing"),
        (
            lambda content: content.update({"report/more": b""}),
            False,
            "report/more is not listed in SHA256SUMS",
        ),
        (
            lambda content: content.update({"report/index.html": b"x"}),
            False,
            "report/index.html does not match its sha256",
        ),
        (lambda content: content.pop("bundle.json"), True, "has no valid bundle.json"),
        (lambda content: content.update({"bundle.json": b'{"format": 9}'}), True, "has bundle format 9"),
    ):
        repack(path, change, sums)
        with pytest.raises(InputError, match=said), bundle.opened(path):
            pass
        path.write_bytes(kept)
    path.write_bytes(kept[:-100])
    with pytest.raises(InputError, match="damaged or not a bundle"), bundle.opened(path):
        pass
    with pytest.raises(InputError, match="No such file"), bundle.opened(tmp_path / "nowhere.zip"):
        pass


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "run gone": (lambda cell: shutil.rmtree(cell / "seed-1"), "seed-1 was done and is now missing"),
    "cell gone": (shutil.rmtree, "seed-0 was done and is now missing"),
    "cell.json gone": (lambda cell: (cell / "cell.json").unlink(), "seed-0 was done and is now damaged"),
    "policy gone": (lambda cell: (cell / "seed-1" / "policy.npz").unlink(), "seed-1: policy.npz is missing"),
    "ladder changed": (
        lambda cell: rows(cell / "seed-1" / "ladder.csv", lambda lines: lines.pop()),
        "seed-1 was done and is now damaged ladder.csv: sha256 differs",
    ),
    "evaluation changed, forged": (
        lambda cell: (rows(cell / "seed-1" / "eval.csv", lambda lines: lines.pop()), forge(cell)),
        "seed-1 was done and is now another run",
    ),
    "sources gone": (
        lambda cell: next(cell.glob("sources-*.zip")).unlink(), "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_records_that_are_missing_or_changed_are_refused(case: str, copy: Path) -> None:
    """By name, and no file is left."""
    change, said = CHANGES[case]
    (cell,) = copy.glob("runs/*/*/a2c-*")
    change(cell)
    with pytest.raises(InputError, match=said):
        bundle.pack(copy / "report", copy / "runs", copy / "new.zip")
    assert {path.name for path in copy.iterdir()} == {"runs", "report", "report.zip", "curves.csv"}


def test_unfinished_then_done_is_a_change(copy: Path) -> None:
    (cell,) = copy.glob("runs/*/*/td3-*")
    shutil.copy(cell / "seed-1" / "result.json", cell / "seed-4" / "result.json")
    with pytest.raises(InputError, match="seed-4 was unfinished and is now damaged"):
        bundle.pack(copy / "report", copy / "runs", copy / "new.zip")


def test_command(copy: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(copy))
    kept = (copy / "report.zip").read_bytes()
    (copy / "report.zip").unlink()
    code, out, err = call(capsys, "bundle", str(copy / "report"), "--runs", str(copy / "runs"))
    assert code == 0 and out.strip() == str(copy / "report.zip") and "files, " in err
    assert (copy / "report.zip").read_bytes() == kept
    code, _, err = call(capsys, "bundle", str(copy / "runs"))
    assert code == 2 and "is not a report" in err and err.count("\n") == 1
    code, _, err = call(capsys, "bundle", str(copy / "report"), "--runs", str(copy / "nowhere"))
    assert code == 2 and "the report's records are missing" in err and err.count("\n") == 1
    (copy / "report.zip").write_bytes(kept[:-30])
    for command in ("check", "verify", "report"):
        code, _, err = call(capsys, command, str(copy / "report.zip"))
        assert code == 2 and "is damaged or not a bundle" in err and err.count("\n") == 1


@pytest.mark.parametrize("grades", [{"cell": "retrained"}, {"cell": None}, [["cell", "recorded"]]])
def test_a_page_has_grades_of_check_only(grades: object, copy: Path) -> None:
    """Nobody trained again what a page says: whoever opens it is told."""
    path = copy / "report" / "provenance.json"
    content = json.loads(path.read_text())
    content["report"]["grades"] = grades
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"only grades of `ascent check`|report\.grades.*: (input|is not)"):
        bundle.provenance(copy / "report")


# ---- what goes in, and what does not


def test_only_files_of_the_report(copy: Path) -> None:
    """A file that was dropped there stays out, a changed one is refused, a link is not followed."""
    (copy / "secret.txt").write_text("secret")
    (copy / "report" / "notes.txt").write_text("private")
    (copy / "report" / "tables" / "mine.csv").symlink_to(copy / "secret.txt")
    bundle.pack(copy / "report", copy / "runs", copy / "again.zip")
    assert (copy / "again.zip").read_bytes() == (copy / "report.zip").read_bytes()
    (copy / "report" / "index.html").write_text("another page")
    with pytest.raises(InputError, match=r"index\.html changed since the report was built"):
        bundle.pack(copy / "report", copy / "runs", copy / "again.zip")
    sums = copy / "report" / bundle.SUMS
    kept = sums.read_text()
    for line, said in (
        (f"{sha256(b'secret').hexdigest()}  ../secret.txt\n", r"lists '\.\./secret\.txt'"),
        (f"{sha256(b'secret').hexdigest()}  tables/mine.csv\n", "mine.csv is a link"),
    ):
        sums.write_text(line)
        with pytest.raises(InputError, match=said):
            bundle.pack(copy / "report", copy / "runs", copy / "again.zip")
    sums.write_text(kept.replace("  ", ""))
    with pytest.raises(InputError, match="not a list of checksums"):
        bundle.pack(copy / "report", copy / "runs", copy / "again.zip")
    sums.unlink()
    with pytest.raises(InputError, match="SHA256SUMS is missing: build the report again"):
        bundle.pack(copy / "report", copy / "runs", copy / "again.zip")


NAMES = {
    "host": "login7.cluster.example.org",
    "python": "/home/alison/ascent/.venv/bin/python",
    "pid": 918273,
    "SLURM_CLUSTER_NAME": "example-hpc",
    "SLURM_JOB_PARTITION": "alison-partition",
    "SLURM_JOB_ID": "55512345",
    "SLURM_ARRAY_JOB_ID": "55512340",
    "SLURMD_NODENAME": "gpu-node-17",
    "user": "alison",  # an entry that no version writes
}


@pytest.fixture
def with_names(copy: Path) -> Path:
    """Records that were trained by Alison on her cluster, and their report."""
    for path in copy.glob("runs/*/*/*/seed-*/run.json"):
        trained.edit(
            path,
            lambda about: (
                [attempt.update(NAMES) for attempt in about["attempts"]] and about.update(user="alison")
            ),
        )
    shutil.rmtree(copy / "report")
    build(copy / "runs", copy / "report", title="Two cells")
    return copy


def test_anonymous(with_names: Path, capsys: pytest.CaptureFixture) -> None:
    """Nothing names Alison or her site; seeds that trained together still say so; it checks and verifies."""
    report, runs, path = with_names / "report", with_names / "runs", with_names / "anonymous.zip"
    for target, words in ((with_names / "named.zip", ()), (path, ("--anonymous",))):
        assert call(capsys, "bundle", str(report), "--runs", str(runs), "--out", str(target), *words)[0] == 0

    def contents(target: Path) -> bytes:
        with zipfile.ZipFile(target) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())

    for name in map(str, NAMES.values()):
        assert name.encode() in contents(with_names / "named.zip")
        assert name.encode() not in contents(path), name
    before, after = ((call(capsys, "check", str(target))) for target in (with_names / "named.zip", path))
    assert before == after
    _, out, _ = call(capsys, "verify", str(path), "--depth", "policy")
    assert "1 rebuilt, 6 replayed" in out
    with bundle.opened(path) as unpacked:
        (attempt,) = files.read_json(next(unpacked.glob("runs/*/*/a2c-*/seed-0/run.json")))["attempts"]
        assert (attempt["host"], attempt["python"], attempt["pid"]) == ("host-1", "python-1", 1)
        assert (attempt["SLURM_JOB_ID"], attempt["SLURMD_NODENAME"]) == ("1", "node-1")
        assert attempt["pack"] == [0, 1, 2] and attempt["to_step"] == 400, "what the rules need stays"


def test_equal_names_stay_equal() -> None:
    """In all runs of a bundle, and different ones stay different."""
    names = Pseudonyms()
    abouts = [
        {"seed": 0, "attempts": [{"host": host, "pid": 7} for host in hosts]} for hosts in ("ab", "ba", "c")
    ]
    hosts = [[attempt["host"] for attempt in names.run(about)["attempts"]] for about in abouts]
    assert hosts == [["host-1", "host-2"], ["host-2", "host-1"], ["host-3"]]


# ---- signatures


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed: apt install openssh-client")
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(tmp_path / "key")]
    subprocess.run(words, check=True)
    return tmp_path / "key"


def test_signed(copy: Path, key: Path, capsys: pytest.CaptureFixture) -> None:
    """`check` says whose signature it is; a changed bundle, another key and no key are refused."""
    path = copy / "signed.zip"
    bundle.pack(copy / "report", copy / "runs", path, key=key)
    kept = path.read_bytes()
    public = key.with_suffix(".pub").read_text()
    (copy / "signers").write_text(f"alice@example.org {public}")
    (copy / "others").write_text(f"bob@example.org {public.replace('AAAA', 'AAAB', 1)}")
    assert "signature: signed with ED25519 key SHA256:" in call(capsys, "check", str(path))[1]
    _, out, _ = call(capsys, "check", str(path), "--signers", str(copy / "signers"))
    assert "signature: signed by alice@example.org with ED25519 key SHA256:" in out

    def refused(*words: str) -> str:
        code, out, err = call(capsys, "check", *words)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and not out, (out, err)
        return err

    assert "which is of nobody in" in refused(str(path), "--signers", str(copy / "others"))
    (copy / "for-git").write_text(f'alice@example.org namespaces="git" {public}')
    assert "which is of nobody in" in refused(str(path), "--signers", str(copy / "for-git"))
    assert "nowhere: no such file" in refused(str(path), "--signers", str(copy / "nowhere"))
    assert "is not signed" in refused(str(copy / "report.zip"), "--signers", str(copy / "signers"))
    assert "--signers needs a bundle" in refused(str(copy / "runs"), "--signers", str(copy / "signers"))
    repack(path, lambda content: content.update({"report/index.html": b"forged"}))
    assert "SHA256SUMS.sig is" in refused(str(path)) or "signature" in refused(str(path))
    with zipfile.ZipFile(io.BytesIO(kept)) as archive:
        signature = archive.read(bundle.SIGNATURE)
    path.write_bytes((copy / "report.zip").read_bytes())
    repack(path, lambda content: content.update({"report/index.html": b"forged"}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(bundle.SIGNATURE, signature)
    assert "the signature is not one of these checksums" in refused(str(path))
    with pytest.raises(InputError, match="nowhere: no such file"):
        bundle.pack(copy / "report", copy / "runs", path, key=copy / "nowhere")
    with pytest.raises(InputError, match=r"--sign .*signers: "):
        bundle.pack(copy / "report", copy / "runs", path, key=copy / "signers")


def test_without_ssh(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(copy))
    with pytest.raises(InputError, match="needs ssh-keygen, which is not installed"):
        bundle.pack(copy / "report", copy / "runs", copy / "signed.zip", key=copy / "report.zip")
    assert not (copy / "signed.zip").exists()
