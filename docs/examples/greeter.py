"""
A gRPC service on Twisted that has nothing to do with etcd: messages, methods and a port of its own.

Run it with ``python docs/examples/greeter.py [PORT]``; it prints where it listens.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from twistedetcd.protocols.grpc import Call, Code
from twistedetcd.protocols.handlers import StatusError, streaming, unary
from twistedetcd.protocols.port import ClientPortFactory
from twistedetcd.protocols.turn import Turn

reactor: Any = installed_reactor

# message Text { string text = 1; }   What protoc would make of this will do as well.
_FILE = descriptor_pb2.FileDescriptorProto(name="greeter.proto", package="greeter", syntax="proto3")
_TEXT = _FILE.message_type.add(name="Text")
_TEXT.field.add(name="text", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_FILE)
Text: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("greeter.Text"))

SLOW_SECONDS = 60.0


def say_hello(request: Any, call: Call) -> Any:
    """One request, one answer; metadata both ways."""
    if not request.text:
        raise StatusError(Code.INVALID_ARGUMENT, "nobody to greet", [(b"hint", b"give a name")])
    language = call.request.metadata(b"language")
    call.set_metadata([(b"spoken", language or b"en"), (b"raw-bin", b"\x00\xff")])
    return Text(text=f"{'Salut' if language == b'fr' else 'Hello'}, {request.text}!")


def say_hello_later(request: Any, call: Call) -> Deferred[Any]:
    """The answer may be a Deferred; it is cancelled when the client gives up."""
    return deferLater(reactor, SLOW_SECONDS, say_hello, request, call)


async def spell(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """One request, many answers: a letter each."""
    async for request in requests:
        for letter in request.text:
            yield Text(text=letter)


async def join(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """Many requests, one answer."""
    words = [request.text async for request in requests]
    yield Text(text=" ".join(words))


async def chat(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """Both at once: each is answered before the next is looked at."""
    async for request in requests:
        if request.text == "bye":
            return
        yield Text(text=request.text.upper())


METHODS = {
    b"/greeter.Greeter/SayHello": unary(Text.FromString, say_hello),
    b"/greeter.Greeter/SayHelloLater": unary(Text.FromString, say_hello_later),
    b"/greeter.Greeter/Spell": streaming(Text.FromString, spell),
    b"/greeter.Greeter/Join": streaming(Text.FromString, join),
    b"/greeter.Greeter/Chat": streaming(Text.FromString, chat),
}


def main(port: int) -> None:
    """Serve on the loopback interface until interrupted."""
    factory = ClientPortFactory(reactor, Turn(reactor), METHODS)
    listening = reactor.listenTCP(port, factory, interface="127.0.0.1")
    print(f"listening on {listening.getHost().port}", flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", factory.drain)
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
