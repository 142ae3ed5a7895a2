"""Hundreds of connections, ended in every way, leave no memory and no descriptor."""

from __future__ import annotations

import json

import pytest
from harness import child

import ioxide
from ioxide import _ioxide

from .peers import CA, CERTIFICATES

SCRIPT = f"""
import gc, json, os, socket, ssl
from ioxide import _ioxide
_ioxide._set_native_tls(NATIVE)
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain({str(CERTIFICATES / "localhost.pem")!r})
client_context = ssl.create_default_context(cafile={CA!r})

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

async def serve(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def connection(address, way):
    if way == 0:
        with socket.create_connection(address) as sock:
            sock.send(b"garbage that is no handshake\\n")
            await aio.sleep(0)
        return
    try:
        reader, writer = await aio.open_connection(
            *address, ssl=client_context, server_hostname="localhost" if way != 1 else "elsewhere"
        )
    except ssl.SSLError:
        assert way == 1
        return
    writer.write(bytes(40_000))
    await reader.readexactly(40_000)
    if way == 2:
        writer.transport.abort()
    elif way == 3:
        writer.transport._transport.close()
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass

async def round(address, count):
    for start in range(0, count, 20):
        await aio.gather(*(connection(address, i % 6) for i in range(start, start + 20)))

async def settle():
    for _ in range(30):
        await aio.sleep(0.001)

async def main():
    server = await aio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    await round(address, 120)
    gc.collect()
    await settle()
    before = resident(), len(os.listdir("/proc/self/fd"))
    await round(address, 240)
    await settle()
    gc.collect()
    objects = [o for o in gc.get_objects() if type(o).__name__ in ("SSLTransport", "SocketTransport", "SSLObject")]
    print(json.dumps([resident() - before[0], len(os.listdir("/proc/self/fd")) - before[1], len(objects)]))
    server.close()
    await server.wait_closed()

aio.run(main())
"""


@pytest.mark.slow
def test_connections_leave_nothing(engine):
    native = str(engine == "native")
    memory, descriptors, objects = json.loads(
        child.check(ioxide, SCRIPT.replace("NATIVE", native), quiet=False)
    )
    assert descriptors == 0
    assert objects == 0
    # One connection takes about 60 KB while it is open.
    assert memory < 2_000_000


def test_a_connection_is_gone_as_soon_as_it_is_over(engine):
    done = child.check(
        ioxide,
        f"""
        import gc, ssl, weakref
        from ioxide import _ioxide
        _ioxide._set_native_tls({engine == "native"})
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain({str(CERTIFICATES / "localhost.pem")!r})
        client_context = ssl.create_default_context(cafile={CA!r})

        class Protocol(stdlib.Protocol):
            def connection_made(self, transport):
                self.transport = transport
            def connection_lost(self, exc):
                over.set_result(None)

        async def main():
            global over
            loop = aio.get_running_loop()
            over = loop.create_future()
            server = await loop.create_server(stdlib.Protocol, "127.0.0.1", 0, ssl=server_context)
            transport, protocol = await loop.create_connection(
                Protocol, *server.sockets[0].getsockname(),
                ssl=client_context, server_hostname="localhost")
            transport.close()
            await over
            server.close()
            return weakref.ref(transport)

        gc.disable()
        print(aio.run(main())())
        """,
    )
    assert done == "None\n"


def test_the_switch_is_private():
    assert "_set_native_tls" not in ioxide.__all__
    assert _ioxide._set_native_tls(True) is None
