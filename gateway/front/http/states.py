"""The states of a connection and of a hot request on it, each with its transitions.

A connection has two sides, as in h11: what is received, and which request is answered next. The two move
independently, because requests may be pipelined.
"""

from enum import Enum, auto


class Receiving(Enum):
    """What the next bytes of a connection belong to.

    ===========  ============================================================  ===========
    from         event                                                         to
    ===========  ============================================================  ===========
    AT_BOUNDARY  a whole request arrives whose head is cached                  AT_BOUNDARY
    AT_BOUNDARY  the first byte of a request (on_message_begin)                HEAD
    HEAD         the head is complete (on_headers_complete)                    BODY
    HEAD         the head is complete, and offers another protocol             UPGRADE
    UPGRADE      the parser restarts, with the head minus the offer            HEAD
    BODY         the last byte, through the parser (on_message_complete)       AT_BOUNDARY
    BODY         the last byte, received directly into the body's buffer       AT_BOUNDARY
                 (buffer_filled)
    HEAD         the head is too long or took too long: 431, 408               BROKEN
    BODY         chunk headers are too long, or a cold body is too slow:       BROKEN
                 431, 408
    any          the bytes are not HTTP: 400                                   BROKEN
    ===========  ============================================================  ===========

    AT_BOUNDARY  between requests; the connection is closed after KEEP_ALIVE_S of silence
    HEAD         the request line and headers, within header_timeout_s
    BODY         the body, whose rate is monitored, and anything that follows its last chunk
    UPGRADE      only within one call of the parser: ignores its events until it raises HttpParserUpgrade
    BROKEN       final: further bytes are ignored, and the connection is being closed
    """

    AT_BOUNDARY = auto()
    HEAD = auto()
    BODY = auto()
    UPGRADE = auto()
    BROKEN = auto()


class Answering(Enum):
    """Whether the next pipelined request may start when the one before it has been answered.

    =================  ============================================================  =================
    from               event                                                         to
    =================  ============================================================  =================
    READY              a request is answered, and the ones behind it may start       DRAINING_PIPELINE
    DRAINING_PIPELINE  a started request is answered immediately                     DRAINING_PIPELINE
    DRAINING_PIPELINE  a started request is not answered immediately, or none is     READY
                       left
    READY,             an answer is written that the client does not read            WRITE_BLOCKED
    DRAINING_PIPELINE  (writing is paused)
    WRITE_BLOCKED      the client reads again (resume_writing)                       DRAINING_PIPELINE
    any                an error is written before its request has been received      CLOSING
                       completely, or because the request is invalid (reject)
    =================  ============================================================  =================

    READY              nothing prevents the next start; a request may be running
    DRAINING_PIPELINE  a loop starts the waiting requests one by one, because nested calls could exceed Python's
                       recursion limit
    WRITE_BLOCKED      reading is paused, and no request is started
    CLOSING            final: the connection closes when the rest of the request has arrived, after LINGER_S at the
                       latest
    """

    READY = auto()
    DRAINING_PIPELINE = auto()
    WRITE_BLOCKED = auto()
    CLOSING = auto()


class Stage(Enum):
    """The progress of a hot request.

    ===========  ============================================================  ===========
    from         event                                                         to
    ===========  ============================================================  ===========
    OPEN         the head or access is rejected, or the body stalls (fail)     FAILED
    OPEN         complete and next in turn: a thread inflates or parses the    PARSING
                 body
    OPEN         complete and next in turn: the body is parsed here, and the   INFERRING
                 request submitted
    PARSING      the thread has inflated a large body, and another parses it   PARSING
    PARSING      the thread is done: the request is submitted                  INFERRING
    PARSING      the model is to be loaded before the body can be read         PARSING
    PARSING      the gateway stops before the thread is done: an error is      DONE
                 written
    PARSING      the thread found an error in the body (fail)                  FAILED
    INFERRING    the first of several answers is written                       STREAMING
    INFERRING    a thread compresses the final answer or error                 COMPRESSING
    FAILED       next in turn: a thread compresses the error, if it is long    COMPRESSING
    INFERRING    the final answer or error is written                          DONE
    STREAMING    the final answer or error is written                          DONE
    FAILED       next in turn: the error is written                            DONE
    COMPRESSING  the thread is done: the answer is written                     DONE
    any          the client has disconnected (abandon)                         DONE
    ===========  ============================================================  ===========

    Two facts are not stages, because each may become true in OPEN or in FAILED, in either order: the body
    has been received completely (`_body_complete`), and all earlier requests have been answered (`_has_turn`).
    PARSING and INFERRING require both. The answer to a failed request requires only its turn; if the body is
    incomplete, the answer closes the connection.

    OPEN         waits for the body or for its turn; the engine's BodyReservation is open
    PARSING      a thread uses the body, and the engine's Acceptance counts the request; that and the BodyReservation
                 stay open until that thread has ended, even after `abandon`, because the memory stays in use that
                 long. Or the request waits for its model to be loaded; `abandon` ends that
    INFERRING    the engine has the request; `abandon` cancels its handle
    STREAMING    the same, and the head of the answer is written: an error is an event, with the status 200
    FAILED       failed before the engine received it; `_reply` waits for its turn, the rest of the body is ignored
    COMPRESSING  a thread compresses the answer
    DONE         answered, or the client has disconnected
    """

    OPEN = auto()
    PARSING = auto()
    INFERRING = auto()
    STREAMING = auto()
    FAILED = auto()
    COMPRESSING = auto()
    DONE = auto()
