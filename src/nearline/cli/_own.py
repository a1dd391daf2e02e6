"""Whether this process does nothing but run one command: only then are its priority and limits the command's."""

PROCESS = False
