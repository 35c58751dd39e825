"""What pages of other origins get is the same with and without the compiled path."""

from gateway.front.base.cors import Cors
from tests.unit.front.test_compiled_requests import Bench, Run, document, http, module, run

__all__ = ["module", "run"]  # fixtures

PAGE, STRANGER = "https://page.example", "https://stranger.example"


def sent_for(origin: str) -> bytes:
    return http(document(), more=f"Origin: {origin}\r\n")


async def prepare(bench: Bench) -> None:
    """Have uvicorn make its default headers, as it does each second."""
    for front in bench.pair.fronts:
        await front.server.on_tick(0)


def test_if_every_page_may_read_answers_the_fast_path_takes_them(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await prepare(bench)
        await bench.learn(sent_for(PAGE))
        bench.answers()
        for origin in (PAGE, STRANGER):
            await bench.learn(sent_for(origin))
            bench.answers()
            await bench.ask(sent_for(origin))
            await bench.answer_all()
            assert bench.answers().count(b"access-control-allow-origin: *\r\n") == 1

    run(test, cors=Cors(["*"]))


def test_if_some_pages_may_python_answers_these(run: Run) -> None:
    """The fast path takes requests of other clients, and of other pages."""

    async def test(bench: Bench) -> None:
        await prepare(bench)
        for data in (None, sent_for(STRANGER)):
            await bench.learn(data)
            answers = bench.answers()
            assert answers.count(b"vary: origin\r\n") == answers.count(b"200 OK")
            assert b"access-control" not in answers
        before = bench.taken
        for _ in range(4):
            bench.pair.send(bench.number, sent_for(PAGE))
            await bench.pair.compare()
            await bench.answer_all()
            assert b"access-control-allow-origin: https://page.example\r\n" in bench.answers()
        assert bench.taken == before

    run(test, cors=Cors([PAGE]))
