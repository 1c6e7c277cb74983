"""Accounting for the throw-away cluster: SLURM's database daemon, and a MariaDB server of its own.

Debian's packages slurmdbd and mariadb-server-core have both. The server keeps its data in the cluster's
folder, has no users and passwords, and listens on a socket in that folder only.
"""

from pathlib import Path

PROGRAMS = ("slurmdbd", "mariadbd", "sacctmgr", "sacct")

# Of a QOS: at most MAX_JOBS jobs of a user are in the queue, and at most MAX_CPUS of its CPUs are in use.
MAX_JOBS = 4
MAX_CPUS = 2
SACCTMGR = [
    "add cluster throwaway",
    f"add qos few MaxSubmitJobsPerUser={MAX_JOBS}",
    f"add qos small MaxTRESPerUser=cpu={MAX_CPUS}",
    "add qos closed",
    "add account lab,thesis,other",
    "add user {user} Account=lab DefaultAccount=lab QOS=normal,few,small DefaultQOS=normal",
    "add user {user} Account=thesis QOS=normal DefaultQOS=normal",
]

SLURM_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
JobAcctGatherFrequency=task=1
"""
# StorageHost=localhost: by the socket that MYSQL_UNIX_PORT names.
SLURMDBD_CONF = """\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
"""
SERVER = """\
[mariadbd]
datadir={folder}/database
socket={folder}/mariadb.socket
pid-file={folder}/mariadb.pid
user={user}
# The tables that MariaDB itself needs, such as that of stored procedures.
init-file={folder}/init.sql
skip-grant-tables
skip-networking
performance-schema=OFF
# Small files and buffers, and no care for a power cut.
innodb-buffer-pool-size=8M
innodb-log-file-size=4M
innodb-data-file-path=ibdata1:4M:autoextend
innodb-temp-data-file-path=ibtmp1:4M:autoextend
innodb-autoextend-increment=1
innodb-doublewrite=OFF
innodb-flush-method=nosync
innodb-flush-log-at-trx-commit=0
sync-frm=OFF
aria-sync-log-dir=NEVER
aria-pagecache-buffer-size=1M
"""


def write(folder: Path, host: str, user: str, port: int) -> str:
    """Write the settings of slurmdbd and of its server; return the lines for slurm.conf."""
    names = {"folder": folder, "host": host, "user": user, "port": port}
    (folder / "database" / "mysql").mkdir(parents=True)
    tables = next(Path("/usr/share").glob("m*/m*_system_tables.sql"))  # its name depends on the version
    (folder / "init.sql").write_text(f"use mysql;\n{tables.read_text()}")
    (folder / "mariadb.conf").write_text(SERVER.format(**names))
    conf = folder / "slurmdbd.conf"
    conf.write_text(SLURMDBD_CONF.format(**names))
    conf.chmod(0o600)  # slurmdbd insists
    return SLURM_CONF.format(**names)


def serves(folder: Path) -> bool:
    """Return whether the server takes connections. Its socket is there earlier."""
    return "ready for connections" in (folder / "mariadbd.log").read_text(errors="replace")
