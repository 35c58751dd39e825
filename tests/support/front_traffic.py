"""Random traffic for two fronts that must do the same: usual requests, odd ones, and all kinds of accidents."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from gateway.domain.table import WorkerAddress
from gateway.domain.types import ModelStatus
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.layouts import by_row, layout_of
from runtimes.tensors import Tensor, pack_bytes
from tests.support.front_pair import Pair, error_frame, result_frame

_NUMBERS = [each.name for each in DATATYPES.values() if each.kind not in ("bool", "bytes") and each.typestr is not None]


def _status(name: str, *inputs: tuple[str, str, tuple[int, ...]], **more: Any) -> ModelStatus:
    specs = tuple(TensorSpec(*each) for each in inputs)
    outputs = tuple(TensorSpec("o" + each.name, each.datatype, each.shape) for each in specs)
    return ModelStatus(name, "1", "READY", admits=True, signatures={"": Signature(specs, outputs)}, **more)


STATUSES = {
    each.name: each
    for each in (
        _status("rows", ("x", "FP32", (-1, 2)), max_batch_size=8),
        _status("two", ("b", "FP64", (-1, 1)), ("a", "INT64", (-1, 2)), max_batch_size=4, priority_levels=3),
        _status("all", *((name.lower(), name, (-1,)) for name in _NUMBERS), stateful=True),
        _status("text", ("s", "BYTES", (-1, 1)), max_batch_size=8),
        _status("mixed", ("s", "BYTES", (-1,)), ("x", "FP32", (-1,)), ("t", "BYTES", (-1,))),
        _status("target", ("x", "FP32", (-1, 2)), max_batch_size=8, latency_target_ms=3_600_000),
        _status("deep", ("x", "FP32", (-1, 2, 3)), ("n", "INT32", (-1, 1, 1, 2)), max_batch_size=8),
        _status("large", ("a", "INT64", (-1,)), ("b", "INT64", (-1,)), ("c", "INT64", (-1,))),
    )
}
_ODD_VALUES = (
    "true", "null", '"1"', "1e400", "1e39", "70000", "-0", "-0.0", "18446744073709551615", "18446744073709551616",
    "-9223372036854775808", "1.5", "[1]", "{}", "NaN", "Infinity", "01", "1e2", "5e-324", "3.4028235e38", "65519.9", "",
    "1E0", "0.1e1", '"\\ud800"', '"]"', '"\\"data\\":["',
)  # fmt: skip
_STRINGS = (
    '""',
    '"a"',
    '"ä"',
    '"\\u00e9"',
    '"\\ud83d\\ude00"',
    '"😀"',
    '"a\\nb"',
    '"\\\\"',
    '"x y"',
    '"' + "z" * 99 + '"',
)
_IDS = ('""', '"1"', '"abc-def"', '"ä"', '"a\\nb"', "null", '"\\u0041"', '"' + "i" * 256 + '"', '"' + "i" * 257 + '"')
_ODD_IDS = ("7", "true", '"a\nb"', '"\x7f"', '"\\ud800"', '"\x00"', "[1]", '"data"', '"id"')
_PARAMETERS = (
    "{}", '{"timeout":50000000}', '{"timeout":0}', '{"priority":2}', '{"priority":-5,"timeout":70000000}',
    '{"binary_data_output":true}', '{"binary_data_output":false,"priority":9}', '{"other":[1,2]}', "null",
)  # fmt: skip
_ODD_PARAMETERS = (
    '{"timeout":-1}', '{"priority":1.5}', '{"timeout":9223372036854775807}', '{"priority":18446744073709551615}',
    '{"sequence_id":1}', "[]", '{"id":"x"}',
)  # fmt: skip
_ODD_HEADS = (
    "connection: close\r\n", "expect: 100-continue\r\n", "accept-encoding: gzip\r\n", "x-request-id:\r\n",
    "a: b\x80\r\n", "traceparent: a\tb\r\n", "cookie: " + "c" * 1990 + "\r\n", "cookie: " + "c" * 2300 + "\r\n",
    "Connection: keep-alive\r\n", "content-length: 5\r\n", "accept: text/html\r\n",
    "upgrade: h2c\r\nconnection: upgrade\r\n", "inference-header-content-length: 9\r\n",
)  # fmt: skip


class NamedValues:
    """How the values of a request are named in the plain dialect, or in TensorFlow Serving's."""

    def __init__(self, random: Random, names: Sequence[str]) -> None:
        self.names = names
        self.is_plain = random.random() < 0.5
        # Only columns and named rows can be of several inputs.
        several = ("columns",) * 5 + ("named rows", "only")
        self.form = random.choice(several if len(names) > 1 else ("columns", "only", "rows", "named rows"))
        self.space = random.choice(("", "", " ", "\n\t"))
        more: tuple[str, ...]
        odd: tuple[str, ...]
        if self.is_plain:
            more = ("", "", "", f'"outputs":["o{names[0]}"]', '"parameters":{"priority":2}', '"model":null')
            odd = ('"outputs":[]', '"parameters":{"timeout":50000000}', '"outputs":["[1]"]', '"version":1', '"other":1')
        else:
            more = ("", "", "", '"signature_name":"serving_default"', '"other":1', '"other":"[1]"')
            odd = ('"signature_name":"no"', '"other":[1]', '"signature_name":null', '"instances":[[1]]')
        self.more = random.choice(more if random.random() < 0.9 else odd)
        self.more_first = random.random() < 0.3

    def path(self, model: str) -> str:
        return f"/predict/{model}" if self.is_plain else f"/v1/models/{model}:predict"

    def text(self, random: Random, values: dict[str, Any], odd: bool) -> str:
        """`values`: nested lists, whose elements are JSON."""
        if self.form == "columns":
            columns = [f'"{name}":{self.space}{_json(each)}' for name, each in values.items()]
            document = f'"inputs":{{{f",{self.space}".join(columns)}}}'
        elif self.form == "named rows":
            rows = [
                "{" + ",".join([f'"{name}":{_json(row)}' for name, row in zip(values, row, strict=True)]) + "}"
                for row in zip(*values.values(), strict=False)
            ]
            document = f'"instances":[{",".join(rows)}]'
        else:
            key = "inputs" if self.form == "only" else "instances"
            document = f'"{key}":{self.space}{_json(values[self.names[0]])}'
        parts = [document, self.more] if self.more else [document]
        if odd and random.random() < 0.2:
            parts.append(random.choice((document, '"inputs":{}', '"outputs":[1]', '"signature":"x"')))
        return "{" + f",{self.space}".join(parts[::-1] if self.more_first else parts) + "}"


def _nested(values: list[str], shape: Sequence[int], odd: bool) -> Any:
    """Return values as nested lists of this shape; of another if `odd` is set."""
    if len(shape) < 2:
        return values[:-1] if odd else values
    size = int(np.prod(shape[1:]))
    lists = [_nested(values[at : at + size], shape[1:], odd and not at) for at in range(0, shape[0] * size, size or 1)]
    return lists if size else [_nested([], shape[1:], False) for _ in range(shape[0])]


def _json(values: Any) -> str:
    return f"[{','.join(map(_json, values))}]" if isinstance(values, list) else values


class Template:
    """A request of which everything but the values, the id and headers of the trace is always the same."""

    def __init__(self, random: Random, named: float) -> None:
        self.status = random.choice(list(STATUSES.values()))
        self.rows = 4096 if self.status.name == "large" else random.choice((0, 1, 1, 1, 2, 2, 3))
        self.specs = list(self.status.signatures[""].inputs)
        random.shuffle(self.specs)
        self.binary = random.random() < 0.3
        self.parameters = random.choice(_PARAMETERS if random.random() < 0.9 else _ODD_PARAMETERS)
        self.has_parameters = random.random() < 0.4
        self.has_id = random.random() < 0.5
        self.id_first = random.random() < 0.5
        self.space = random.choice(("", "", " ", "\n\t"))
        chosen = f'[{{"name":"o{self.specs[0].name}"}}]'
        self.outputs = random.choice(("", "", "", "", chosen, chosen, "[]", "null", '[{"name":"no"}]'))
        self.agent = random.choice(("a", "b"))
        self.traced = random.random() < 0.3
        self.model = self.status.name + random.choice(("", "", "", "/versions/1"))
        self.datatype_wrong = random.random() < 0.03
        self.nested = random.random() < 0.1
        names = [spec.name for spec in self.specs]
        self.named = NamedValues(random, names) if random.random() < named else None

    def request(self, random: Random, odd: bool = False) -> bytes:
        if self.named:
            values = {}
            for spec in self.specs:
                shape = tuple(self.rows if size < 0 else size for size in spec.shape or ())
                flat = self._values(random, spec, int(np.prod(shape)), odd and random.random() < 0.4)
                values[spec.name] = _nested(flat, shape, random.random() < 0.1)
            return self._http(random, self.named.text(random, values, odd).encode("utf-8", "surrogatepass"), b"", odd)
        inputs, sections = [], b""
        for spec in self.specs:
            shape = tuple(self.rows if size < 0 else size for size in spec.shape or ())
            data, section = self._data(random, spec, shape, odd and random.random() < 0.4)
            datatype = "BOOL" if self.datatype_wrong else spec.datatype
            described = f'"name":"{spec.name}","shape":{json.dumps(shape)},"datatype":"{datatype}",'
            sections += section
            inputs.append("{" + described + data + "}")
        parts = [f'"inputs":{self.space}[' + f",{self.space}".join(inputs) + "]"]
        if self.has_parameters:
            parts.append(f'"parameters":{self.space}{self.parameters}')
        if self.outputs:
            parts.append(f'"outputs":{self.outputs}')
        if self.has_id:
            choice = random.choice(_ODD_IDS) if odd and random.random() < 0.2 else random.choice(_IDS)
            parts.insert(0 if self.id_first else len(parts), f'"id":{self.space}{choice}')
        text = ("{" + f",{self.space}".join(parts) + "}").encode("utf-8", "surrogatepass")
        return self._http(random, text, sections, odd and random.random() < 0.4)

    def _data(self, random: Random, spec: TensorSpec, shape: Sequence[int], odd: bool) -> tuple[str, bytes]:
        count = int(np.prod(shape))
        if odd and random.random() < 0.3:
            count += random.choice((-1, 1))
        values = self._values(random, spec, count, odd and random.random() < 0.7)
        if self.binary:
            if spec.datatype == "BYTES":
                section = pack_bytes([b"\xff" * random.randrange(4) for _ in range(count)])
            else:
                section = random.randbytes(max(count, 0) * DATATYPES[spec.datatype].itemsize)
            return f'"parameters":{{"binary_data_size":{len(section)}}}', section
        if self.nested and len(shape) > 1 and shape[1] and count == np.prod(shape):
            lines = [f"[{','.join(values[at : at + shape[1]])}]" for at in range(0, len(values), shape[1])]
            return f'"data":[{",".join(lines)}]', b""
        return f'"data":{self.space}[{f",{self.space}".join(values)}]', b""

    def _values(self, random: Random, spec: TensorSpec, count: int, odd: bool) -> list[str]:
        if spec.datatype == "BYTES":
            values = random.choices(_STRINGS, k=max(count, 0))
        elif spec.datatype.startswith("FP"):
            values = [random.choice(("0", "1.5", "-2.25", "1e-3", "7", "0.1", "-0.0")) for _ in range(count)]
        else:
            values = [str(random.randrange(100)) for _ in range(count)]
        if odd and values:
            values[random.randrange(len(values))] = random.choice(_ODD_VALUES)
        return values

    def _http(self, random: Random, text: bytes, sections: bytes, odd: bool) -> bytes:
        body, more, version = text + sections, "", "1.1"
        if self.binary and not self.named:
            more += f"Inference-Header-Content-Length: {len(text)}\r\n"
        if self.traced:
            more += (
                f"traceparent: 00-{random.getrandbits(64):x}\r\nX-Request-Id:{random.choice(('', ' a', ' b c'))}\r\n"
            )
        length = f"content-length: {len(body)}\r\n"
        if odd:
            kind = random.randrange(8)
            if kind < 3:
                more += random.choice(_ODD_HEADS)
            elif kind == 3:
                version = "1.0"
                more += random.choice(("", "connection: keep-alive\r\n"))
            elif kind == 4:
                before, after = random.choice(("0", "+", " ", "  ")), random.choice(("", " ", "0"))
                length = f"content-length: {before}{len(body)}{after}\r\n"
            elif kind == 5:
                length = "transfer-encoding: chunked\r\n"
                at = random.randrange(len(body) + 1)
                chunks = [each for each in (body[:at], body[at:]) if each]
                body = b"".join([b"%x\r\n%b\r\n" % (len(each), each) for each in chunks]) + b"0\r\n\r\n"
            elif kind == 6:
                body = gzip.compress(body, mtime=0)
                length = f"content-length: {len(body)}\r\ncontent-encoding: gzip\r\n"
            else:
                length = length.replace(str(len(body)), str(len(body) + random.choice((-1, 1))))
        more = f"host: localhost\r\nuser-agent: {self.agent}\r\n{more}{length}\r\n"
        path = self.named.path(self.model) if self.named else f"/v2/models/{self.model}/infer"
        head = f"POST {path} HTTP/{version}\r\n{more}"
        data = head.encode("latin-1") + body
        if odd and random.random() < 0.1:
            at = random.randrange(len(data))
            data = random.choice(
                (data[:at] + random.randbytes(1) + data[at + 1 :], data[:at] + data[at + 1 :], data[:at])
            )
        return data


class Traffic:
    """`run` makes steps, each of which is done to both fronts and compared.

    named  the part of the templates that are not the Open Inference Protocol's
    """

    def __init__(self, both: Pair, random: Random, named: float = 0.2) -> None:
        self.pair, self.random, self.named = both, random, named
        self.templates = [Template(random, named) for _ in range(5)]
        self.statuses = dict(STATUSES)
        self.workers: dict[str, list[WorkerAddress]] = {name: [] for name in STATUSES}
        self.listed = set(STATUSES)
        self.paused: set[int] = set()

    async def run(self, steps: int, calm: int = 4) -> None:
        """`calm`: of so many usual steps and one rare one, one is made at random."""
        for name in STATUSES:
            self.workers[name] = [await self.pair.worker(self.random.choice((1, 3, 8, 1 << 20))) for _ in range(2)]
        await self.apply()
        usual: list[Callable[[], Any]] = (
            [self.send] * 6 + [self.burst] * 8 + [self.answer] * 14 + [self.pair.compare] * 4
        )
        rare: list[Callable[[], Any]] = [
            self.send_in_pieces, self.send_in_pieces, self.pipeline, self.fail, self.answer_partly, self.expire,
            self.leave, self.pause, self.resume, self.resume, self.crash, self.reload, self.restore, self.restore,
            self.change_date, self.cold, self.change_template,
        ]  # fmt: skip
        for _ in range(steps):
            await self.random.choice(self.random.choice(([usual] * calm) + [rare]))()
            if self.random.random() < 0.7:
                await self.pair.compare()
        for _ in range(self.random.randrange(12)):
            await self.random.choice([self.send, self.answer, self.drain, self.close_connections, self.shut_down])()
            await self.pair.compare()
        for front in self.pair.fronts:
            front.engine.admission.on_idle = lambda: None

    async def apply(self) -> None:
        await self.pair.apply(*[(self.statuses[name], self.workers[name]) for name in sorted(self.listed)])

    def connection(self) -> int:
        known = list(self.pair.plain.clients)
        if len(known) < 3 or (len(known) < 9 and self.random.random() < 0.1):
            return self.pair.connect()
        return self.random.choice(known)

    def request(self) -> bytes:
        return self.random.choice(self.templates).request(self.random, self.random.random() < 0.1)

    async def send(self) -> None:
        self.pair.send(self.connection(), self.request())

    async def burst(self) -> None:
        """Requests of one form arrive on several connections at once."""
        template = self.random.choice(self.templates)
        for number in [self.connection() for _ in range(self.random.randrange(2, 9))]:
            self.pair.send(number, template.request(self.random))

    async def send_in_pieces(self) -> None:
        number, data = self.connection(), self.request()
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(data) + 1)
            if number not in self.pair.plain.clients:
                return
            self.pair.send(number, data[:at])
            data = data[at:]
            if self.random.random() < 0.5:
                await self.pair.compare()
        if number in self.pair.plain.clients and self.random.random() < 0.9:
            self.pair.send(number, data)

    async def pipeline(self) -> None:
        self.pair.send(self.connection(), b"".join([self.request() for _ in range(self.random.randrange(2, 5))]))

    async def cold(self) -> None:
        self.pair.send(self.connection(), b"GET /cold HTTP/1.1\r\nhost: x\r\n\r\n")

    async def answer(self) -> None:
        for worker, numbers in self.pair.asked().items():
            kept = [number for number in numbers if self.random.random() < 0.6]
            self.random.shuffle(kept)
            self._answer(worker, kept)

    def _answer(self, worker: int, numbers: list[int], final: bool = True) -> None:
        frames: dict[Any, list[tuple[int, int, list[Tensor]]]] = {}
        for number in numbers:
            asked = self.pair.request(worker, number)
            counted = {tensor.shape[0] for tensor in asked.inputs if tensor.shape}
            rows = counted.pop() if len(counted) == 1 else 0
            if self.random.random() < 0.2:
                rows = 0
            outputs = [
                Tensor("o" + name, datatype, shape, self._changed(datatype, bytes(data)))
                for name, datatype, shape, data in asked.inputs
            ]
            if self.random.random() < 0.05:
                outputs = outputs[:1] * self.random.randrange(2)
            layout = layout_of("", (), outputs)
            layout = by_row(layout, 0) if rows else layout
            frames.setdefault((layout, bool(rows)), []).append((number, rows, outputs))
        first = True
        for (_, _), results in frames.items():
            most = self.random.choice((1, 3, 300))
            for at in range(0, len(results), most):
                part = results[at : at + most]
                self.pair.answer(worker, [number for number, _, _ in part], result_frame(part, final, first), final)
                first = False

    def _changed(self, datatype: str, data: bytes) -> bytes:
        chance = self.random.random()
        if datatype in ("FP32", "FP64", "FP16") and chance < 0.1 and data:
            array = np.frombuffer(data, DATATYPES[datatype].dtype).copy()
            array[0] = self.random.choice((np.nan, np.inf, -np.inf, 0.1))
            return array.tobytes()
        return data

    async def answer_partly(self) -> None:
        for worker, numbers in self.pair.asked().items():
            self._answer(worker, numbers[:1], final=False)

    async def fail(self) -> None:
        for worker, numbers in list(self.pair.asked().items()):
            number = self.random.choice(numbers)
            kind = self.random.choice(
                ("invalid_request", "internal", "overloaded", "out_of_memory", "deadline_exceeded")
            )
            self.pair.answer(worker, [number], error_frame(number, kind, "it “failed”"))

    async def expire(self) -> None:
        self.pair.expire(self.random.choice((10, 55, 65, 100)))  # none is a timeout

    async def leave(self) -> None:
        clients = list(self.pair.plain.clients)
        if clients:
            error = self.random.choice((None, ConnectionResetError()))
            for client in self.pair.each(self.random.choice(clients)):
                client.lose(error)

    async def pause(self) -> None:
        """A client stops reading: from now on, or after the next write."""
        clients = [number for number in self.pair.plain.clients if number not in self.paused]
        if clients:
            number, later = self.random.choice(clients), self.random.random() < 0.7
            self.paused.add(number)
            for client in self.pair.each(number):
                if later:
                    client.transport.on_write = lambda client=client: self._pause_once(client)  # type: ignore[misc]
                else:
                    client.receiver.pause_writing()
                    client.writing_paused = True

    def _pause_once(self, client: Any) -> None:
        if not client.writing_paused and not client.lost:
            client.writing_paused = True
            client.receiver.pause_writing()

    async def resume(self) -> None:
        for number in list(self.paused & set(self.pair.plain.clients)):
            self.paused.discard(number)
            for client in self.pair.each(number):
                client.transport.on_write = lambda: None
                if client.writing_paused:
                    client.writing_paused = False
                    client.receiver.resume_writing()

    async def crash(self) -> None:
        name = self.random.choice(list(STATUSES))
        if not self.workers[name]:
            return
        address = self.workers[name].pop()
        if address.id in self.pair.plain.workers:
            numbers = list(self.pair.plain.workers[address.id].asked)
            self.pair.kill(address.id, frozenset(number for number in numbers if self.random.random() < 0.5))
        await self.pair.compare()
        self.workers[name].append(await self.pair.worker(self.random.choice((1, 4, 1 << 20))))
        if self.random.random() < 0.8:
            await self.apply()

    async def reload(self) -> None:
        """The supervisor's next table: other statuses, models that are gone or come back."""
        self.listed, self.statuses = set(STATUSES), dict(STATUSES)
        chance, name = self.random.random(), self.random.choice(list(STATUSES))
        status = STATUSES[name]
        if chance < 0.1:
            self.listed = {name}
        elif chance < 0.3:
            self.listed.remove(name)
        elif chance < 0.4:
            self.statuses[name] = replace(status, state="LOADING", admits=self.random.random() < 0.5)
        elif chance < 0.5:
            signature = Signature((*status.signatures[""].inputs, TensorSpec("more", "FP32", (-1,))), ())
            self.statuses[name] = replace(status, signatures={"": signature})
        elif chance < 0.6:
            self.statuses[name] = replace(status, max_batch_size=0, priority_levels=1)
        await self.apply()

    async def restore(self) -> None:
        """The next table is the first again."""
        self.listed, self.statuses = set(STATUSES), dict(STATUSES)
        await self.apply()

    async def change_date(self) -> None:
        headers = [(b"date", b"%d" % self.random.randrange(99)), *[(b"x", b"y")] * self.random.randrange(2)]
        for front in self.pair.fronts:
            front.server.server_state.default_headers = headers

    async def change_template(self) -> None:
        self.templates[self.random.randrange(len(self.templates))] = Template(self.random, self.named)

    async def drain(self) -> None:
        for front in self.pair.fronts:
            front.engine.draining = True

    async def close_connections(self) -> None:
        for front in self.pair.fronts:
            front.server.disable_keep_alive()

    async def shut_down(self) -> None:
        for front in self.pair.fronts:
            for connection in list(front.server.server_state.connections):
                connection.shutdown()
