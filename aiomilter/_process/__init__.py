"""What a process is made of whose only purpose is to serve.

``lifecycle`` starts, reloads, drains and stops; ``systemd`` tells the service manager; ``workers`` serve in several processes.
"""
