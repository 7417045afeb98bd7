"""A filter's daemon as a process, with real signals: stop, drain, reload, workers, systemd."""
