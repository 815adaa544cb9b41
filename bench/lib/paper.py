"""Figures that others published, in the units of our table: quoted, not measured here."""

SOURCE = "Tsalapatis et al., The Aurora Operating System: Revisiting the Single Level Store, HotOS 2021"
MACHINE = "2 x Xeon Silver 4116, 96 GiB, four Optane 900P, FreeBSD 12.1 on the bare machine; Redis with a working set of 2 GiB"

# Table 3, microseconds: stop time of a checkpoint.
STOP_INCREMENTAL = {"stop": 950.8, "state": 239.7, "copy": 711.1}
STOP_FULL = {"stop": 5413.8, "state": 267.9, "copy": 5145.9}

# Table 4, microseconds: restore.
RESTORE_REDIS_MEMORY = {"total": 755.5, "memory": 494.4, "state": 261.1}
RESTORE_HELLO_MEMORY = {"total": 454.4, "memory": 144.6, "state": 240.4}
RESTORE_HELLO_DISK = {"total": 652.2, "store": 322.7, "memory": 122.6, "state": 206.9}

# The Aurora Single Level Store Operating System (SOSP 2021), Table 1: CRIU, Redis with 500 MB, milliseconds.
CRIU_STOP_MS = 462


def microseconds(value):
    """A quoted figure as the table shows it."""
    return f"{value:g}"
