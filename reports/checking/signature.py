"""Sign the checksums of a bundle with `ssh-keygen -Y`, and verify such a signature.

    SHA256SUMS.sig      an SSH signature of SHA256SUMS, in the namespace "ascent"

Anyone can make a key. A file of allowed signers says whose it is, as `gpg.ssh.allowedSignersFile` does for
git: a line "alice@example.org ssh-ed25519 AAAA..." per person.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ascent.records.errors import InputError

NAMESPACE = "ascent"
PROGRAM = "ssh-keygen"
SECONDS = 60  # for a passphrase or a touch of a security key, too


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of `content` by the private key in a file, or by the agent's for a public one.

    Raises InputError: there is no ssh-keygen, or it cannot sign.
    """
    if not key.is_file():
        raise InputError(f"--sign {key}: no such file")
    done = _run("sign", "-f", str(key), "-n", NAMESPACE, content=content, what=f"--sign {key}")
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise InputError(f"--sign {key}: {_said(done)}")
    return done.stdout


def verify(content: bytes, signature: bytes, signers: Path | None) -> str:
    """Return who signed `content`, in words.

    Args:
        signers: a file of allowed signers. None: any key is good.

    Raises:
        InputError: there is no ssh-keygen, the signature is not one of this content, or by none of `signers`.
    """
    if signers and not signers.is_file():
        raise InputError(f"--signers {signers}: no such file")
    with tempfile.TemporaryDirectory(prefix="ascent-signature-") as folder:
        path = Path(folder) / "signature"
        path.write_bytes(signature)
        words = ("-n", NAMESPACE, "-s", str(path))
        made = _run("check-novalidate", *words, content=content, what="the signature")
        if made.returncode:
            raise InputError(f"the signature is not one of these checksums: {_said(made)}")
        key = re.sub(rb"^.* signature with ", b"", made.stdout.strip()).decode(errors="replace")
        if signers is None:
            return f"signed with {key}; --signers FILE says whose it is"
        find = ("-f", str(signers), "-s", str(path))
        found = _run("find-principals", *find, content=content, what=str(signers))
        for name in found.stdout.decode(errors="replace").splitlines():
            who = ("-I", name, "-n", NAMESPACE)
            if not _run("verify", *find, *who, content=content, what=str(signers)).returncode:
                return f"signed by {name} with {key}"
    raise InputError(f"the checksums are signed with {key}, which is of nobody in {signers}")


def _run(action: str, *words: str, content: bytes, what: str) -> subprocess.CompletedProcess[bytes]:
    if shutil.which(PROGRAM) is None:
        raise InputError(f"{what}: needs {PROGRAM}, which is not installed (package openssh-client)")
    try:
        return subprocess.run(
            [PROGRAM, "-Y", action, *words], input=content, capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{what}: {PROGRAM} has not answered for {SECONDS} s") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"{PROGRAM} failed"
