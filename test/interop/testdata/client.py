"""gRPC's C core: client.py ADDRESS. Makes calls of both kinds at once on one channel and says what went wrong, and how many calls were made.

The messages are as in grpc/testing/messages.proto, written by hand."""

import sys
import threading

import grpc

SERVICE = '/grpc.testing.TestService/'
PROBE = '/magpie.Probe/'
MINE = (('x-user', 'me'),)


def payload(body):
    """A Payload with a body: field 2."""
    n, size = len(body), b''
    while n > 127:
        size += bytes([n & 127 | 128])
        n >>= 7
    return b'\x12' + size + bytes([n]) + body if body else b''


def check(who, trailers):
    by = dict(trailers).get('x-answered-by')
    if by != who:
        raise RuntimeError(f'for the {who}: answered by {by}')


def unary(channel, who, metadata, i):
    call = channel.unary_unary(SERVICE + 'EmptyCall')
    _, done = call.with_call(b'', metadata=metadata, timeout=20)
    check(who, done.trailing_metadata())


def echo(channel, who, metadata, i):
    messages = [payload(bytes([i % 256]) * n) for n in (0, 1, 100, 70000, 3000000 if i == 0 else 300)]
    call = channel.stream_stream(PROBE + 'Echo')(iter(messages), metadata=metadata + (('x-echo-bin', b'\x00\xff'),), timeout=20)
    if list(call) != messages:
        raise RuntimeError('messages came back changed')
    if dict(call.initial_metadata()).get('x-echo-bin') != b'\x00\xff':
        raise RuntimeError(f'metadata: {call.initial_metadata()}')
    check(who, call.trailing_metadata())


def fail(channel, who, metadata, i):
    call = channel.stream_stream(PROBE + 'Fail')(iter([payload('100 % \u263a'.encode())]), metadata=metadata, timeout=20)
    try:
        list(call)
    except grpc.RpcError as err:
        if err.code() != grpc.StatusCode.DATA_LOSS or err.details() != '100 % \u263a':
            raise
        return check(who, err.trailing_metadata())
    raise RuntimeError('no error')


def cancel(channel, who, metadata, i):
    call = channel.stream_stream(PROBE + 'Wait')(iter([]), metadata=metadata, timeout=20)
    call.initial_metadata()
    call.cancel()


def compressed(channel, who, metadata, i):
    call = channel.stream_stream(PROBE + 'Echo')
    message = payload(b'again and ' * 5000)
    if list(call(iter([message] * 3), metadata=metadata, timeout=20, compression=grpc.Compression.Gzip)) != [message] * 3:
        raise RuntimeError('messages came back changed')


def main():
    limits = [('grpc.max_receive_message_length', -1)]
    made, lock = [], threading.Lock()
    with grpc.insecure_channel(sys.argv[1], options=limits) as channel:
        def work(number):
            who, metadata = ('my-local', MINE) if number % 2 else ('original', ())
            for i in range(15):
                for do in (unary, echo, fail, cancel, compressed):
                    try:
                        do(channel, who, metadata, i)
                    except Exception as err:  # all are of interest
                        print(do.__name__, who, repr(err)[:300])
                    with lock:
                        made.append(1)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    print(len(made), 'calls')


main()
