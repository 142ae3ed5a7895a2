"""What a program sets in its `ssl.SSLContext` holds."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys

import pytest

from .peers import (
    CA,
    CERTIFICATES,
    Recorder,
    client_context,
    connected,
    run,
    server_context,
    turns,
)


def test_the_engine_is_the_one_that_was_asked_for(engine):
    async def main():
        async with connected() as (client, server):
            for end in (client, server):
                assert end.transport._native is (engine == "native")

    run(main())


def test_what_is_known_of_a_connection():
    async def main():
        context = client_context()
        async with connected(client=context) as (client, server):
            info = client.transport.get_extra_info
            assert info("sslcontext") is context
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert info("ssl_object").version() == "TLSv1.3"
            assert info("cipher") == info("ssl_object").cipher()
            assert info("compression") is None
            assert info("peercert")["subject"] == ((("commonName", "localhost"),),)
            assert info("peername") == server.transport.get_extra_info("sockname")
            assert info("socket").fileno() > 0
            assert info("nothing", 7) == 7
            assert server.transport.get_extra_info("peercert") is None

    run(main())


def test_a_certificate_of_another_host_is_refused():
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            async with connected(server_context("other")):
                pass
        assert caught.value.verify_code == 62
        assert "Hostname mismatch" in str(caught.value)

    run(main())


def test_an_unknown_authority_is_refused():
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
            async with connected(client=ssl.create_default_context()):
                pass

    run(main())


def test_the_sni_callback_chooses_the_context():
    names = []
    other = server_context("other")
    context = server_context()

    def choose(ssl_object, name, _):
        names.append(name)
        if name == "other.example":
            ssl_object.context = other

    context.sni_callback = choose

    async def main():
        async with connected(context, server_hostname="other.example") as (client, _):
            subject = client.transport.get_extra_info("peercert")["subject"]
            assert subject == ((("commonName", "other.example"),),)

    run(main())
    assert names == ["other.example"]


def test_the_sni_callback_may_refuse():
    context = server_context()
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    async def main():
        with pytest.raises(OSError):
            async with connected(context):
                pass

    run(main())


def test_alpn_is_negotiated():
    server, client = server_context(), client_context()
    server.set_alpn_protocols(["h2", "http/1.1"])
    client.set_alpn_protocols(["http/1.1"])

    async def main():
        async with connected(server, client) as ends:
            for end in ends:
                chosen = end.transport.get_extra_info("ssl_object").selected_alpn_protocol()
                assert chosen == "http/1.1"

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_asked_for_and_seen(version):
    server, client = server_context(), client_context()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(CA)
    client.maximum_version = version
    client.load_cert_chain(CERTIFICATES / "client.pem")

    async def main():
        async with connected(server, client) as (ours, theirs):
            assert ours.transport.get_extra_info("ssl_object").version() == version.name.replace(
                "_", "."
            )
            peer = theirs.transport.get_extra_info("peercert")
            assert peer["subject"] == ((("commonName", "client"),),)

    run(main())


def test_a_client_without_its_certificate_is_told_why():
    server = server_context()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(CA)

    async def main():
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server)
        reader, writer = await asyncio.open_connection(
            *listening.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        # With TLS 1.3 the client is done before the server has looked at its certificate.
        with pytest.raises(OSError):
            assert await reader.read() == b""
            raise ConnectionResetError
        writer.close()
        listening.close()
        await listening.wait_closed()

    run(main())


def test_an_encrypted_key_is_decrypted_by_its_password():
    async def main():
        async with connected(server_context("encrypted", password="secret")) as (client, _):
            assert client.transport.get_extra_info("peercert")

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_taken_up_again(version):
    sessions = []

    class Resuming(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            options["session"] = sessions[-1] if sessions else None
            return super().wrap_bio(*args, **options)

    client = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(CA)
    client.maximum_version = version
    server = server_context()

    async def main():
        reused = []
        for _ in range(2):
            async with connected(server, client) as (ours, theirs):
                theirs.transport.write(b"hello")
                while not ours.received:
                    await turns(1)
                ssl_object = ours.transport.get_extra_info("ssl_object")
                reused.append(ssl_object.session_reused)
                sessions.append(ssl_object.session)
        assert reused == [False, True]

    run(main())


def test_keys_are_logged(tmp_path):
    client = client_context()
    client.keylog_filename = str(tmp_path / "keys")

    async def main():
        async with connected(client=client) as (ours, _):
            ours.transport.write(b"hello")

    run(main())
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


@pytest.mark.parametrize(
    "message, ends", [("CLIENT_HELLO", False), ("FINISHED", True)], ids=["waiting", "done"]
)
def test_what_a_callback_for_messages_raises_ends_the_step_that_it_is_in(message, ends):
    """Where the step must wait for the other end, that is what it says, and the exception is its context."""
    seen = []

    class Unheard(Exception):
        pass

    def told(connection, direction, version, content_type, message_type, data):
        seen.append((direction, message_type.name))
        if seen[-1] == ("write", message):
            raise Unheard

    client = client_context()
    client._msg_callback = told

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        try:
            async with connected(client=client) as (ours, theirs):
                ours.transport.write(b"hello")
                ours.transport.close()
                await asyncio.gather(ours.over, theirs.over)
                assert theirs.received == b"hello"
        except Unheard:
            return True
        return False

    assert run(main()) == ends
    assert ("read", "SERVER_HELLO") in seen


def test_an_object_class_of_the_programs_is_driven_by_its_methods():
    reads = []

    class Counting(ssl.SSLObject):
        def read(self, *args):
            reads.append(args)
            return super().read(*args)

    client = client_context()
    client.sslobject_class = Counting

    async def main():
        async with connected(client=client) as (ours, theirs):
            theirs.transport.write(b"hello")
            while not ours.received:
                await turns(1)
            assert not ours.transport._native

    run(main())
    assert reads


class Meddling(ssl.SSLContext):
    """Does something to what a connection reads from before it is made."""

    meddle = staticmethod(lambda incoming: None)

    def wrap_bio(self, incoming, outgoing, **options):
        self.meddle(incoming)
        return super().wrap_bio(incoming, outgoing, **options)


@pytest.mark.parametrize("how", ["kept", "written to", "ended"])
def test_what_a_context_has_meddled_with_serves_no_other_connection(how):
    kept = []
    meddling = Meddling(ssl.PROTOCOL_TLS_CLIENT)
    meddling.load_verify_locations(CA)
    meddling.meddle = {
        "kept": kept.append,
        "written to": lambda incoming: incoming.write(b"not a record"),
        "ended": lambda incoming: incoming.write_eof(),
    }[how]
    # Its connections are driven by methods, which read from what they were given.
    plain = client_context()
    plain.sslobject_class = type("Object", (ssl.SSLObject,), {})

    async def main():
        for context in (meddling, plain, meddling, plain):
            with contextlib.suppress(OSError):
                async with connected(client=context) as (ours, theirs):
                    for memory in kept:
                        memory.write(b"not a record")
                    kept.clear()
                    ours.transport.write(b"hello")
                    while not theirs.received:
                        await turns(1)
                    ours.transport.close()
                    await asyncio.gather(ours.over, theirs.over)
                    assert theirs.received == b"hello"
                    continue
            # By methods a connection reads what was written before, and fails by it.
            assert context is meddling

    run(main())


SCRIPT = """
import ssl, sys
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[1])
client = ssl.create_default_context(cafile=sys.argv[2])
before = server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

import ioxide as asyncio

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def main():
    server_ = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server)
    address = server_.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, ssl=client, server_hostname="localhost")
    writer.write(b"hello\\n")
    print((await reader.read()).decode(), end="")
    writer.close()
    server_.close()

asyncio.run(main())
"""


def test_contexts_made_before_the_import_serve():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, CERTIFICATES / "localhost.pem", CA],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("hello\n", "")


def test_ssl_true_is_the_default_context():
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(client=True):
                pass

    run(main())


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1.5])
def test_timeouts_are_above_zero(name, value):
    async def main():
        with pytest.raises(ValueError) as caught:
            async with connected(**{name: value}):
                pass
        assert str(caught.value) == f"{name} should be a positive number, got {value}"

    run(main())
