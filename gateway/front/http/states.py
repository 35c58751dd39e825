"""The states of a connection and of a hot request on it, each with its transitions.

A connection has two sides, as in h11: what comes, and whose turn it is to be answered. They move on
their own, since requests may be pipelined. An exchange is one hot request, from its head to its answer.
"""

from enum import Enum, auto


class Receiving(Enum):
    """What the next bytes of a connection belong to.

    ==========  ============================================================  ==========
    from        event                                                         to
    ==========  ============================================================  ==========
    BETWEEN     a whole request comes whose head is remembered                BETWEEN
    BETWEEN     the first byte of a request (on_message_begin)                HEAD
    HEAD        its head is complete (on_headers_complete)                    BODY
    HEAD        its head is complete, and offers another protocol             OFFER
    OFFER       the parser starts again, with a head without the offer        HEAD
    BODY        its last byte, through the parser (on_message_complete)       BETWEEN
    BODY        its last byte, received where the body belongs (filled)       BETWEEN
    HEAD        the head is too long, or took too long: 431, 408              BROKEN
    BODY        headers of chunks are too long, or a cold body is too slow:   BROKEN
                431, 408
    any         what came is not HTTP: 400                                    BROKEN
    ==========  ============================================================  ==========

    BETWEEN   nothing of the next request has come; silence ends the connection after KEEP_ALIVE_S
    HEAD      the request line and headers, within header_timeout_s
    BODY      the body, whose rate is watched; also what follows its last chunk
    OFFER     within one call of the parser only: its events until it raises HttpParserUpgrade say nothing
    BROKEN    final: what comes is not read, and the connection is closed
    """

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()
    OFFER = auto()
    BROKEN = auto()


class Answering(Enum):
    """Whether the next request of a connection gets its turn when the one before it is answered.

    ==========  ============================================================  ==========
    from        event                                                         to
    ==========  ============================================================  ==========
    FREE        a request is answered: those behind it get their turn         ADVANCING
    ADVANCING   one of them is answered at once                               ADVANCING
    ADVANCING   one is not answered at once, or none is left                  FREE
    FREE,       an answer is written that the client does not take            HELD_BACK
    ADVANCING   (writing is paused)
    HELD_BACK   the client takes answers again (resume_writing)               ADVANCING
    any         an answer is written before its request has come whole, or    REFUSED
                to what cannot be read (refuse)
    ==========  ============================================================  ==========

    FREE       nothing stands in the way; a request may be under way
    ADVANCING  a loop starts the requests that wait, one by one: calls within calls would be too deep
    HELD_BACK  reading is paused, and no request is started
    REFUSED    final: the connection is closed when the rest of the request has come, after LINGER_S at the latest
    """

    FREE = auto()
    ADVANCING = auto()
    HELD_BACK = auto()
    REFUSED = auto()


class Stage(Enum):
    """How far an exchange has come.

    ==========  ============================================================  ==========
    from        event                                                         to
    ==========  ============================================================  ==========
    OPEN        head, access or body is refused, or the body stops (fail)     REFUSED
    OPEN        whole, and its turn: the body is unpacked or read in a        READING
                thread
    OPEN        whole, and its turn: the body is read here, and submitted     INFERRING
    READING     the thread is done: the body is read in another, if it was    READING
                only unpacked and is large
    READING     the thread is done: the request is submitted                  INFERRING
    READING     the thread found what is wrong with the body (fail)           REFUSED
    INFERRING   the final answer or an error, which a thread compresses       PACKING
    REFUSED     its turn, and an error so long that a thread compresses it    PACKING
    INFERRING   the final answer or an error is written                       DONE
    REFUSED     its turn: the error is written                                DONE
    PACKING     the thread is done: the answer is written                     DONE
    any         the client has gone (abandon)                                 DONE
    ==========  ============================================================  ==========

    Two facts are no part of it, since each may become true in OPEN or in REFUSED, in either order: the
    body has come whole (`_whole`), and the requests before it are answered (`_has_turn`). READING and
    INFERRING need both. The answer to a request that was refused needs only its turn; where the body has
    not come whole, it closes the connection.

    OPEN       the body or its turn is awaited; the engine's BodyReservation is open
    READING    a thread has the body; the BodyReservation stays open until the thread has let go of it, come what may
    INFERRING  the engine has the request; there is a handle, which `abandon` cancels
    REFUSED    it failed before the engine had it; `_reply` waits for its turn, what still comes is dropped
    PACKING    a thread compresses the answer
    DONE       answered, or nobody waits for an answer
    """

    OPEN = auto()
    READING = auto()
    INFERRING = auto()
    REFUSED = auto()
    PACKING = auto()
    DONE = auto()
