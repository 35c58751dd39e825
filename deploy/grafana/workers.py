"""The dashboard of processes and environments."""

from deploy.grafana.panels import Json, Query, dashboard, stat, states, table, time_series
from deploy.grafana.queries import BUILD_COLORS, FULL, PROBLEM, SERVER, STATE_COLORS, variables


def workers() -> Json:
    private, limit = "modelport_process_private_memory_bytes", "modelport_process_memory_limit_bytes"
    per_process = "sum by (instance, process)"
    rows = {
        "Now": [
            stat("Workers ready", "none", Query(f"sum(modelport_workers_up{{{SERVER}}})")),
            stat(
                "Worker restarts, 1 h",
                "none",
                Query(f"sum(increase(modelport_worker_restarts_total{{{SERVER}}}[1h]))"),
                steps=PROBLEM,
            ),
            stat(
                "Front restarts, 1 h",
                "none",
                Query(f"sum(increase(modelport_front_restarts_total{{{SERVER}}}[1h]))"),
                steps=PROBLEM,
            ),
            stat("CPU of the machine", "percentunit", Query(f"max(nv_cpu_utilization{{{SERVER}}})"), steps=FULL),
            stat(
                "Memory of the machine",
                "percentunit",
                Query(f"max(nv_cpu_memory_used_bytes{{{SERVER}}} / nv_cpu_memory_total_bytes{{{SERVER}}})"),
                steps=FULL,
            ),
            stat(
                "Log lines lost, 1 h",
                "none",
                Query(f"sum(increase(modelport_log_dropped_total{{{SERVER}}}[1h]))"),
                "Only if there is an audit log.",
                PROBLEM,
            ),
        ],
        "Processes": [
            time_series(
                "Resident memory",
                "bytes",
                Query(f"{per_process} (modelport_process_resident_memory_bytes{{{SERVER}}})", "{{process}}"),
                stack=True,
                about="Shared memory counts in each process that has mapped it.",
            ),
            time_series(
                "Private memory",
                "bytes",
                Query(f"{per_process} (modelport_process_private_memory_bytes{{{SERVER}}})", "{{process}}"),
            ),
            time_series(
                "CPU",
                "none",
                Query(
                    f"{per_process} (rate(modelport_process_cpu_seconds_total{{{SERVER}}}[$__rate_interval]))",
                    "{{process}}",
                ),
                about="Cores.",
                stack=True,
            ),
            time_series(
                "Memory against its limit",
                "percentunit",
                Query(
                    f"max by (instance, process) ({private}{{{SERVER}}} / {limit}{{{SERVER}}})",
                    "{{process}}",
                ),
                about="Of workers whose model has a memory_limit.",
                most=1,
            ),
            time_series(
                "Open file descriptors",
                "none",
                Query(f"{per_process} (modelport_process_open_fds{{{SERVER}}})", "{{process}}"),
            ),
            time_series(
                "Restarts",
                "none",
                Query(
                    f"sum by (model) (increase(modelport_worker_restarts_total{{{SERVER}}}[$__rate_interval]))",
                    "{{model}}",
                ),
                Query(f"sum(increase(modelport_front_restarts_total{{{SERVER}}}[$__rate_interval]))", "fronts"),
            ),
        ],
        "Models and environments": [
            states("State of models", "modelport_model_state", SERVER, "model, version", STATE_COLORS, width=12),
            states(
                "State of environments",
                "modelport_environment_state",
                SERVER,
                "runtime",
                BUILD_COLORS,
                "Of the runtimes that models have needed.",
                12,
            ),
            table(
                "Cold start by version",
                {
                    "Seconds": (
                        Query(f"max by (model, version) (modelport_model_load_duration_seconds{{{SERVER}}})"),
                        "s",
                    )
                },
                ["model", "version"],
                width=12,
            ),
            table(
                "Builds of environments",
                {
                    "Seconds": (
                        Query(f"max by (runtime) (modelport_environment_build_duration_seconds{{{SERVER}}})"),
                        "s",
                    )
                },
                ["runtime"],
                "Only those that this server has built.",
                12,
            ),
        ],
        "Configuration and protection": [
            table(
                "Protections",
                {"Enforced": (Query(f"min by (feature) (modelport_security_enforced{{{SERVER}}})"), "bool_yes_no")},
                ["feature"],
                "GET /v2/security says why one is not.",
                12,
            ),
            table(
                "Files that are read again",
                {
                    "Newest content in use": (
                        Query(f"min by (instance, file) (modelport_last_reload_successful{{{SERVER}}})"),
                        "bool_yes_no",
                    )
                },
                ["instance", "file"],
                "Certificates, identities and keys, if configured.",
                12,
            ),
        ],
    }
    about = "Processes of modelport: memory, CPU, restarts; environments and their builds."
    return dashboard(
        "modelport-workers", "modelport / Workers and environments", about, variables("modelport_build_info"), rows
    )
