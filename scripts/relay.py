"""relay.py PORT FOLDER: pass one TCP connection on to PORT here, and keep what went by.

The bytes of each direction go to FOLDER/from-client and FOLDER/from-server, before they go on.
"""

import socket
import sys
import threading
from pathlib import Path


def copy(source: socket.socket, target: socket.socket, record: Path) -> None:
    """Until the source has ended; the end goes on, too."""
    with record.open("wb", buffering=0) as file:
        while part := source.recv(65536):
            file.write(part)
            target.sendall(part)
    target.shutdown(socket.SHUT_WR)


def main() -> None:
    """Announce a free port, take one client, end when both directions have ended."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"relaying on port {listener.getsockname()[1]}", flush=True)
        client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=copy, args=(server, client, folder / "from-server"))
        back.start()
        copy(client, server, folder / "from-client")
        back.join()


if __name__ == "__main__":
    main()
