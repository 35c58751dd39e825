"""The system calls that a model may not make, and their numbers on each architecture.

The numbers come from Linux's unistd_64.h and asm-generic/unistd.h, and never change.
"""

from typing import Dict, NamedTuple, Tuple

DENIED: Tuple[str, ...] = (
    # other programs, and copies of this one
    "fork", "vfork", "execve", "execveat",
    # the network; `socket` has a condition
    "connect", "bind", "listen",
    # other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_open",
    "pidfd_getfd", "pidfd_send_signal", "tkill", "shmget", "shmat", "shmctl", "semget", "semctl", "semop",
    "semtimedop", "msgget", "msgctl", "msgsnd", "msgrcv", "mq_open", "mq_unlink", "ioprio_set", "migrate_pages",
    # properties of files, which Landlock does not cover
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr",
    "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "file_setattr",
    "utime", "utimes", "futimesat", "utimensat", "truncate", "mknod", "mknodat", "open_by_handle_at",
    "name_to_handle_at", "fanotify_init", "inotify_init", "inotify_init1",
    # the view of the file system
    "chroot", "mount", "umount2", "pivot_root", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
    "fsopen", "fsconfig", "fsmount", "fspick", "setns", "unshare", "swapon", "swapoff", "quotactl", "quotactl_fd",
    "acct",
    # parts of the kernel with a history of errors, which no framework needs
    "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd", "keyctl",
    "add_key", "request_key",
    # the machine
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "sethostname",
    "setdomainname", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "syslog", "iopl", "ioperm",
    "modify_ldt", "uselib", "vhangup", "lookup_dcookie",
)  # fmt: skip

# Calls that change how a thread is scheduled, which is their first argument.
BY_THREAD: Tuple[str, ...] = ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr")

# name → number on x86-64, on arm64 (0: it has no such call). Calls of conditions come first (seccomp.py).
_NUMBERS: Dict[str, Tuple[int, int]] = {
    "open": (2, 0), "openat": (257, 56), "socketpair": (53, 199), "fcntl": (72, 25), "ioctl": (16, 29),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "setpriority": (141, 140),
    "clone": (56, 220), "clone3": (435, 435), "socket": (41, 198), "kill": (62, 129), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261), "prctl": (157, 167),
    "fork": (57, 0), "vfork": (58, 0), "execve": (59, 221), "execveat": (322, 281), "connect": (42, 203),
    "bind": (49, 200), "listen": (50, 201), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgctl": (71, 187), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "mq_unlink": (241, 181), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "msgget": (68, 186), "mq_open": (240, 180), "chmod": (90, 0), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, 0), "fchown": (93, 55), "lchown": (94, 0), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
    "file_setattr": (469, 469), "utime": (132, 0), "utimes": (235, 0), "futimesat": (261, 0), "utimensat": (280, 88),
    "truncate": (76, 45), "mknod": (133, 0), "mknodat": (259, 33), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "fanotify_init": (300, 262), "inotify_init": (253, 0),
    "inotify_init1": (294, 26), "chroot": (161, 51), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "mount_setattr": (442, 442), "move_mount": (429, 429), "open_tree": (428, 428),
    "open_tree_attr": (467, 467), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "setns": (308, 268), "unshare": (272, 97), "swapon": (167, 224), "swapoff": (168, 225),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "syslog": (103, 116), "iopl": (172, 0), "ioperm": (173, 0), "modify_ldt": (154, 0), "uselib": (134, 0),
    "vhangup": (153, 58), "lookup_dcookie": (212, 18),
}  # fmt: skip


class Architecture(NamedTuple):
    """audit: its constant AUDIT_ARCH_… seccomp: the number of the call seccomp. numbers: by the call's name."""

    audit: int
    seccomp: int
    numbers: Dict[str, int]


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 317, {name: numbers[0] for name, numbers in _NUMBERS.items()}),
    "aarch64": Architecture(0xC00000B7, 277, {name: number for name, (_, number) in _NUMBERS.items() if number}),
}
